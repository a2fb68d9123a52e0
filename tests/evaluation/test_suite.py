"""The suite: what its references and prompts promise."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from rbjax.evaluation import suite as suite_lib
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from tests.helpers.evaluation_world import World, vocabulary

WORDS = vocabulary()


def build(world, **settings):
    return suite_lib.build(world.clusters, world.tags, WORDS, **{"characters": 12, **settings})


def test_faces_come_from_other_outfits_and_clothes_from_one(world):
    for case in build(world).cases:
        assert case.concepts == (FACE, FACE, CLOTHES, CLOTHES)
        outfits = world.clusters.outfit[list(case.references)]
        assert outfits[2] == outfits[3] and outfits[2] not in outfits[:2]
        assert set(world.clusters.character[list(case.references)]) == {case.character}
        assert len(set(case.references)) == 4


def test_real_images_are_of_the_outfit_and_no_references(world):
    cases = build(world).cases
    for case in cases:
        if case.real is not None:
            assert case.real not in case.references
            assert world.clusters.outfit[case.real] == world.clusters.outfit[case.references[-1]]
    assert Counter(case.real for case in cases if case.real is not None).most_common(1)[0][1] == 1
    assert sum(case.real is not None for case in cases) == 12 * 2


def test_prompts_name_nothing_that_a_reference_carries(world):
    for case in build(world).cases:
        shown = {tag for position in case.references for tag in world.tags[position]}
        assert case.prompt[0] == "solo"
        assert not shown & set(case.prompt[1:])
        assert {WORDS["tags"][tag]["kind"] for tag in case.prompt[1:]} == {"free"}


def test_backgrounds_differ_from_hair_and_clothes(world):
    for case in build(world).cases:
        answers = [world.answers[position] for position in case.references]
        colours = {a[name] for a in answers for name in ("hair_color", "clothing_color")}
        (background,) = [tag for tag in case.prompt if tag.endswith("background")]
        assert background.removesuffix(" background") not in colours


def test_hidden_eyes_are_not_asked_for(world):
    for case in build(world).cases:
        hidden = "accessory" in world.answers[case.references[0]]
        assert hidden != any(tag.endswith(" eyes") for tag in case.prompt)


def test_prompts_of_a_character_differ_while_values_last(world):
    cases = build(world, per_character=2).cases
    for first, second in zip(cases[::2], cases[1::2], strict=True):
        assert first.references == second.references
        assert set(first.prompt) & set(second.prompt) == {"solo"}
        assert first.seed != second.seed


def test_the_seed_decides_and_a_smaller_suite_is_the_beginning_of_a_larger(world):
    assert build(world).cases == build(world).cases
    assert build(world, seed=1).cases != build(world).cases
    assert build(world, characters=3).cases == build(world).cases[:12]


def test_the_tags_of_all_named_records_are_kept(world):
    suite = build(world, characters=2)
    named = {p for case in suite.cases for p in (*case.references, case.real) if p is not None}
    assert suite.tags == {position: tuple(world.tags[position]) for position in named}


@pytest.mark.parametrize(
    "sizes, references, real",
    [
        ((1,), 2, 0),  # a single image is face and clothes
        ((2,), 2, 1),  # the second image stays left over
        ((5,), 4, 1),  # one outfit: the face comes from it
        ((1, 1), 2, 0),
        ((2, 3), 4, 1),
    ],
)
def test_small_characters_give_what_they_have(sizes, references, real):
    for seed in range(8):
        (case,) = build(World((sizes,)), per_character=1, seed=seed).cases
        assert case.concepts.count(FACE) >= 1 and case.concepts.count(CLOTHES) >= 1
        assert len(case.references) in {references, 3}
        assert (case.real is not None) == bool(real)
        assert case.real not in case.references


def test_clothes_come_from_images_that_show_them(world):
    clothed = np.random.default_rng(0).random(len(world.clusters)) < 0.4
    without = 0
    for case in build(world, clothed=clothed).cases:
        worn = [p for p, c in zip(case.references, case.concepts, strict=True) if c == CLOTHES]
        assert clothed[worn].all()
        assert case.real not in case.references
        members = world.clusters.same_character(case.references[0])
        without += not worn
        assert bool(worn) == clothed[members].any()
    assert build(world, clothed=np.ones(len(clothed), bool)).cases == build(world).cases


def test_faces_or_clothes_alone_are_possible(world):
    assert build(world, clothes=0).cases[0].concepts == (FACE, FACE)
    assert build(world, faces=0).cases[0].concepts == (CLOTHES, CLOTHES)


def test_a_single_image_gives_a_face_where_no_clothes_are_wanted():
    (case,) = build(World(((1,),)), per_character=1, clothes=0).cases
    assert case.concepts == (FACE,) and case.real is None


@pytest.mark.parametrize("composition", [True, False])
@pytest.mark.parametrize("sizes", [((4, 4, 4),) * 6, ((6,),) * 6, ((2, 3), (1, 1), (3, 1))])
def test_no_real_image_is_a_variant_of_a_reference(composition, sizes):
    """Some images are variants of others of their character, in their outfit or in another."""
    world, rng, real = World(sizes), np.random.default_rng(0), 0
    for seed in range(10):
        variant = np.arange(len(world.clusters), dtype=np.int32)
        for i in rng.permutation(len(variant))[: len(variant) // 3]:
            variant[i] = variant[rng.choice(world.clusters.same_character(i))]
        variant = np.array([variant[variant[i]] for i in range(len(variant))])
        for i, of in enumerate(variant):  # named by its first
            variant[i] = np.flatnonzero(variant == of)[0] if of >= 0 else of
        clusters = dataclasses.replace(world.clusters, variant=variant.astype(np.int32))
        suite = suite_lib.build(
            clusters,
            world.tags,
            WORDS,
            characters=6,
            open_characters=6,
            seed=seed,
            composition=composition,
        )
        for case in suite.cases:
            assert len(case.references) > 0
            shown = set(variant[list(case.references)].tolist())
            assert case.real is None or variant[case.real] not in shown
            others = variant[list(suite.variety.get(case.character, ()))].tolist()
            assert not shown & set(others)
            real += case.real is not None
    assert real > 0


def test_variants_leave_a_real_image_where_another_drawing_is_there():
    """An outfit of three images, two of which are one drawing: one of them, or both, refer."""
    world = World(((3, 1),))
    variant = np.array([0, 0, 2, 3], np.int32)
    clusters = dataclasses.replace(world.clusters, variant=variant)
    for seed in range(12):
        suite = suite_lib.build(clusters, world.tags, WORDS, characters=1, seed=seed)
        case = suite.cases[0]
        worn = [p for p, c in zip(case.references, case.concepts, strict=True) if c == CLOTHES]
        assert (set(worn), case.real) in [({0, 1}, 2), ({2}, 0), ({2}, 1)]


def test_a_suite_of_nothing_is_refused(world):
    with pytest.raises(ValueError, match="0 \\+ 0 references"):
        build(world, faces=0, clothes=0)
    with pytest.raises(ValueError, match="-1 \\+ 3 references"):
        build(world, faces=-1, clothes=3)
    with pytest.raises(ValueError, match="got 0"):
        build(world, characters=0)


# --- data without questions or boxes

BARE = {"tags": WORDS["tags"], "questions": {}}


def test_without_questions_a_prompt_is_that_of_a_real_image(world):
    suite = suite_lib.build(world.clusters, world.tags, BARE, characters=12)
    for case in suite.cases:
        own = world.tags[case.real] if case.real is not None else None
        assert case.prompt[0] == "solo"
        assert {WORDS["tags"][tag]["kind"] for tag in case.prompt[1:]} == {"free"}
        if own is not None:
            free = [tag for tag in own if WORDS["tags"].get(tag, {}).get("kind") == "free"]
            assert list(case.prompt[1:]) == free


def test_prompts_are_as_much_as_a_model_reads(world):
    suite = build(world, open_characters=1)
    cut = suite_lib.fitted(suite, lambda prompt: prompt[:2])
    assert [case.prompt for case in cut.cases] == [case.prompt[:2] for case in suite.cases]
    assert suite.cut == 0 and cut.cut == 12 * 4 and not cut.cases[4].prompt
    assert suite_lib.fitted(suite, list) == suite


def test_a_prompt_keeps_what_the_references_do_not_carry(world):
    suite = suite_lib.build(world.clusters, world.tags, BARE, characters=12, faces=2, clothes=0)
    kinds = {WORDS["tags"][tag]["kind"] for case in suite.cases for tag in case.prompt[1:]}
    assert kinds == {"free", "outfit"}


def test_entire_references_are_other_images_of_the_character(world):
    for case in build(world, composition=False).cases:
        assert case.concepts == (CHARACTER,) * 4 and len(set(case.references)) == 4
        assert set(world.clusters.character[list(case.references)]) == {case.character}
        assert case.real is not None and case.real not in case.references


def test_characters_without_a_boxed_image_are_left_out(world):
    missing = world.clusters.same_character(0)
    keep = np.ones(len(world.clusters), bool)
    keep[missing] = False
    cases = suite_lib.build(
        world.clusters.restricted(keep), world.tags, WORDS, characters=100
    ).cases
    characters = {case.character for case in cases}
    assert characters == set(range(len(world.clusters.names))) - {int(world.clusters.character[0])}
    assert not {r for case in cases for r in case.references} & set(missing.tolist())
