"""Copying, where it is known what is copied."""

import dataclasses

import numpy as np
import pytest

from rbjax.evaluation import baselines, copying
from rbjax.evaluation import suite as suite_lib
from tests.helpers.evaluation_world import vocabulary


@pytest.fixture
def suite(world):
    return suite_lib.build(world.clusters, world.tags, vocabulary(), characters=12, per_character=2)


def measure(world, suite, images, embeddings=None):
    systems = {"row": baselines.SystemImages(images, suite.cases)}
    found = copying.of_systems(systems, world.images, embeddings or {}, resamples=20)
    return found["row"]


def test_a_reference_is_a_copy_and_a_target_is_none(world, suite):
    for index in range(4):
        copies = world.images([case.references[index] for case in suite.cases])
        assert measure(world, suite, copies)["pixels"]["mean"] == pytest.approx(1)
    targets = world.images([case.real for case in suite.cases])
    assert measure(world, suite, targets)["pixels"]["mean"] == pytest.approx(-1)


def test_any_embedding_counts(world, suite):
    copies = world.images([case.references[0] for case in suite.cases])
    found = measure(world, suite, copies, {"rows": lambda images: images[:, :, 0, 0]})
    assert set(found) == {"pixels", "rows"} and found["rows"]["mean"] == pytest.approx(1)


def test_what_cannot_be_scored_is_counted(world, suite):
    images = world.images([case.real for case in suite.cases])
    before = measure(world, suite, images)["pixels"]["unscored"]
    images[:6] = np.nan  # of three characters
    assert before < measure(world, suite, images)["pixels"]["unscored"] <= before + 6
    assert measure(world, suite, np.full_like(images, np.nan))["pixels"] is None


def test_cases_without_a_real_image_have_no_score(world, suite):
    cases = tuple(dataclasses.replace(case, real=None) for case in suite.cases)
    bare = dataclasses.replace(suite, cases=cases)
    assert measure(world, bare, world.generate(cases)) == {"pixels": None}
