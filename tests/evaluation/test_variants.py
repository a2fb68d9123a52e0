"""Rows with changed references, and the matrix of what comes in through which reference."""

import numpy as np
import pytest

from rbjax.evaluation import baselines, scoring, variants
from rbjax.evaluation import suite as suite_lib
from rbjax.text.concepts import CLOTHES, FACE
from tests.helpers.evaluation_world import COLOURS, NAMES, VALUES, ReadingVQA, vocabulary


@pytest.fixture
def suite(world):
    return suite_lib.build(
        world.clusters, world.tags, vocabulary(), characters=12, repeats=2, open_characters=3
    )


def separability(world, suite, vqa, generate):
    """Returns {concept: {kind: mean}} of a system that is asked for crossed cases."""
    cases = variants.crossed(variants.first(suite.cases, 12))
    images = {variants.CROSS: baselines.SystemImages(generate(cases), tuple(cases))}
    results = scoring.score(images, suite, vqa, read_images=world.images, resamples=20)
    return results["separability"]


def means(matrix):
    return {c: {k: cell["mean"] for k, cell in row.items()} for c, row in matrix.items()}


def test_cases_of_the_first_characters_without_repeats(suite):
    cases = variants.first(suite.cases, 5)
    assert len(cases) == 5 * 4 and not any(case.repeat or case.is_open for case in cases)


def test_only_one_concept(suite):
    for concept in (FACE, CLOTHES):
        for case in variants.only(suite.cases, concept):
            assert set(case.concepts) == {concept} and len(case.references) == 2


def test_crossed_cases_wear_the_next_characters_clothes(world, suite):
    base = variants.first(suite.cases, 12)
    crossed = variants.crossed(base)
    others = baselines.other_characters(base)
    for case, cross, other in zip(base, crossed, others, strict=True):
        assert cross.references == case.references[:2] + other.references[2:]
        assert (cross.prompt, cross.seed, cross.concepts) == (case.prompt, case.seed, case.concepts)
        assert cross.real is None
    one = [case for case in base if case.character == base[0].character]
    assert variants.crossed(one) == []


def build(world, references, **options):
    return suite_lib.build(
        world.clusters,
        world.tags,
        vocabulary(),
        **{"characters": 12, "faces": references, "clothes": references} | options,
    )


def with_more(world, base, drawn_from=None):
    more = build(world, 5)
    return variants.with_more(base.cases, more, world.clusters, drawn_from or vocabulary())


def test_cases_with_more_references_are_otherwise_the_same(world):
    base = build(world, 1)
    found = with_more(world, base)
    assert len(found) > 0.9 * len(base.cases)
    before = {(case.character, case.seed): case for case in base.cases}
    for case in found:
        same = before[case.character, case.seed]
        assert case.prompt == same.prompt and case.real in (same.real, None)
        assert case.real not in case.references and case.concepts == tuple(sorted(case.concepts))
        pairs = [{*zip(c.references, c.concepts, strict=True)} for c in (same, case)]
        assert pairs[0] < pairs[1]
    assert {len(case.references) for case in found} == {3, 4}
    assert any(case.real is not None for case in found)


def test_further_references_neither_show_nor_hide_what_the_prompt_asks_for(world):
    base = build(world, 1)
    for case in with_more(world, base):
        assert not any({*case.prompt[1:]} & {*world.tags[p]} for p in case.references)
    recorded = with_more(world, base, vocabulary() | {"questions": {}})
    assert all(len(case.references) == 4 for case in recorded)
    assert len(recorded) == len(base.cases)


def test_no_reference_is_added_for_a_concept_that_had_none(world):
    found = with_more(world, build(world, 1, clothes=0))
    assert found and {concept for case in found for concept in case.concepts} == {FACE}


def test_every_variant_is_a_row_that_is_scored_against_its_own_cases(world, suite, vqa):
    trained = baselines.SystemImages(world.generate(suite.cases), suite.cases)
    made = variants.collect(world.generate, trained, characters=4, more=suite.cases[:3])
    assert tuple(made) == variants.VARIANTS
    results = scoring.score(made, suite, vqa, read_images=world.images, resamples=20)
    rows = results["rows"]
    for name in ("unchanged", "moved", "flipped", variants.CROSS):
        for column in ("vqa_flexibility", "outfit_agreement", "identity_agreement"):
            assert rows[name][column]["mean"] == 1
    assert rows[variants.FACE_ONLY]["outfit_agreement"] is None
    assert rows[variants.CLOTHES_ONLY]["identity_agreement"] is None


def test_what_is_asked_for_comes_in_through_its_reference(world, suite, vqa):
    found = separability(world, suite, vqa, world.generate)
    by_mean = means(found)
    assert by_mean["face"]["identity"] == by_mean["clothes"]["outfit"] == 1
    assert by_mean["face"]["outfit"] == by_mean["clothes"]["identity"] == 0
    assert by_mean["face"]["free"] == by_mean["clothes"]["free"] == 0
    assert found["face"]["identity"]["wanted"] and not found["face"]["outfit"]["wanted"]
    assert 0 < found["face"]["outfit"]["chance"] < 0.4


@pytest.mark.parametrize("index, concept", [(0, "face"), (2, "clothes")])
def test_a_copy_brings_in_all_of_its_reference(world, suite, vqa, index, concept):
    def copy(cases):
        return world.images([case.references[index] for case in cases])

    by_mean = means(separability(world, suite, vqa, copy))
    assert set(by_mean[concept].values()) == {1}
    assert max(by_mean["clothes" if concept == "face" else "face"].values()) < 0.3


def test_an_outfit_that_leaks_through_the_face_is_seen_there_and_only_there(world, suite, vqa):
    def leaky(cases):
        images = world.generate(cases)
        faces = world.images([case.references[0] for case in cases])
        for name in ("clothing", "clothing_color"):
            images[:, NAMES.index(name)] = faces[:, NAMES.index(name)]
        return images

    by_mean = means(separability(world, suite, vqa, leaky))
    assert by_mean["face"]["outfit"] == 1 and by_mean["clothes"]["outfit"] == 0
    assert by_mean["face"]["identity"] == 1 and by_mean["face"]["free"] == 0


def test_chance_is_of_images_that_have_nothing_to_do_with_either_reference(world):
    """Every character has a hair color of its own: other characters' images show it never."""
    for answers, character in zip(world.answers, world.clusters.character, strict=True):
        answers["hair_color"] = COLOURS[character]
    world.tags = [world.name(answers) for answers in world.answers]
    asked = ReadingVQA(asked=["hair_color"])
    found = separability(world, build(world, 2), asked, world.generate)
    assert found["face"]["identity"]["chance"] == found["clothes"]["identity"]["chance"] == 0


def test_answers_at_random_are_at_chance_everywhere(world, suite, vqa):
    rng = np.random.default_rng(0)

    def at_random(cases):
        images = np.zeros_like(world.generate(cases))
        for name, (_, values, _) in VALUES.items():
            images[:, NAMES.index(name)] = (1 + rng.integers(len(values), size=len(cases)))[
                :, None, None
            ] / 16
        return images

    for row in separability(world, suite, vqa, at_random).values():
        for cell in row.values():
            assert abs(cell["mean"] - cell["chance"]) < 0.2
