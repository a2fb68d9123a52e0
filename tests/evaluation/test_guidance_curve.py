"""What guidance trades: the model with other guidance, one program for all."""

import jax
import numpy as np
import pytest

from rbjax.diffusion.guidance import Sampling
from rbjax.evaluation import guidance_curve, report_parts, suite
from rbjax.evaluation.generator import CaseGenerator
from rbjax.experiment import setup as setup_lib
from rbjax.train import state as state_lib
from tests.helpers import tiny_run
from tests.helpers.evaluation_world import ReadingVQA, World, vocabulary

OWN = Sampling(steps=2, method="euler", guidance_references=1.5, guidance_prompt=2.0)


def measure(generate, characters=4, vqa=None):
    world = World()
    cases = suite.build(
        world.clusters,
        world.tags,
        vocabulary(),
        characters=6,
        per_character=2,
        faces=1,
        clothes=1,
        repeats=2,
        open_characters=6,
    )
    return guidance_curve.of_run(
        lambda some, guidance: generate(world, some, guidance),
        cases,
        vqa or ReadingVQA(),
        sampling=OWN,
        characters=characters,
        read_images=world.images,
    )


def test_the_curves_meet_at_the_own_guidance_and_rise():
    curves = guidance_curve.points(OWN)
    assert curves["references"] == [(1.0, 2.0), (1.5, 2.0), (2.0, 2.0), (3.0, 2.0), (5.0, 2.0)]
    assert (1.5, 2.0) in curves["prompt"] and {pair[0] for pair in curves["prompt"]} == {1.5}


def test_what_is_lost_by_guidance_is_seen_in_its_columns_alone():
    """References are shown from 2 on only, the prompt from 3 on only."""

    def generate(world, cases, guidance):
        full = world.generate(cases)
        blank = world.generate(cases, blank=guidance[0] < 2)
        full[:, 3:] = np.where(guidance[1] < 3, 0, full)[:, 3:]
        full[:, :3] = blank[:, :3]
        return full

    found = measure(generate)
    assert found["cases"] == 4 * (2 + 4)
    identity = [point["identity_agreement"]["mean"] for point in found["curves"]["references"]]
    assert identity == [0, 0, 1, 1, 1]
    prompted = [point["vqa_flexibility"]["mean"] for point in found["curves"]["prompt"]]
    assert prompted == [0, 0, 0, 1, 1]
    assert report_parts.guidance({"guidance": found})["plot"].startswith("data:image/png;base64,")


def test_of_nobody_or_without_a_model_that_is_asked_there_is_no_curve():
    assert measure(None, characters=0) is None
    assert report_parts.guidance({"guidance": None}) is None


@pytest.mark.parametrize("guidance", [(1.5, 1.5), (1.0, 3.0)])
def test_images_are_those_of_a_run_with_that_guidance(avatars_dir, guidance):
    """Where a weight is zero a run leaves its prediction out; the shared program adds nothing."""
    config = tiny_run.config(avatars_dir)
    exp = setup_lib.setup(setup_lib.resolve(config))
    with jax.set_mesh(exp.mesh):
        state, _ = state_lib.create_state(exp)
        generator = CaseGenerator(exp, exp.examples(exp.open("test")), 8)
        case = suite.Case(0, (0, 1), (0, 1), ("solo", "smile"), seed=3, real=None)
        shared = generator.generate(state.averaged, [case], guidance=guidance)
        with config.unlocked():
            config.sampling.guidance_references, config.sampling.guidance_prompt = guidance
        own = setup_lib.setup(setup_lib.resolve(config))
        alone = CaseGenerator(own, own.examples(own.open("test")), 8)
        expected = alone.generate(state.averaged, [case])
    np.testing.assert_allclose(shared, expected, atol=1e-4)
