"""Which images may be references of a target: every task, every shape of cluster."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from rbjax.data import references
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from tfds_retribooru.clusters import from_records

# Outfits of each character, in shuffled order: ann has three, bob one, cid a single image.
OUTFITS = {"ann": [["9", "2", "5"], ["4", "0"], ["7"]], "bob": [["1", "8", "6"]], "cid": [["3"]]}


def clusters_of(outfits):
    rows = [
        (image, name, [other for other in outfit if other != image])
        for name, groups in outfits.items()
        for outfit in groups
        for image in outfit
    ]
    return from_records(*zip(*sorted(rows), strict=True))  # position i has id str(i)


@pytest.fixture(scope="module")
def clusters():
    return clusters_of(OUTFITS)


def choose(clusters, target, task, faces=2, clothes=2, seed=0):
    """The visible references as [(image, concept)]."""
    rng = np.random.default_rng(seed)
    chosen = references.choose(clusters, target, task=task, faces=faces, clothes=clothes, rng=rng)
    size = faces + clothes
    assert chosen.images.shape == chosen.concepts.shape == chosen.mask.shape == (size,)
    return list(zip(chosen.images[chosen.mask], chosen.concepts[chosen.mask], strict=True))


def sets_of(target) -> tuple[set[int], set[int]]:
    """The character's images and the outfit's, without the target."""
    for groups in OUTFITS.values():
        for outfit in groups:
            if str(target) in outfit:
                character = {int(i) for group in groups for i in group}
                return character - {target}, {int(i) for i in outfit} - {target}
    raise AssertionError(target)


def allowed(target, task) -> dict[int, set[int]]:
    """concept -> images that may show it, from the tasks' definitions."""
    character, outfit = sets_of(target)
    return {
        "reconstruction": {CHARACTER: {target}},
        "same_identity": {CHARACTER: character},
        "same_outfit": {CHARACTER: outfit},
        "composition": {FACE: (character - outfit) or character, CLOTHES: outfit},
    }[task]


@pytest.mark.parametrize("task", references.TASKS)
@pytest.mark.parametrize("target", range(10))
def test_every_allowed_image_is_chosen_and_no_other(clusters, task, target):
    seen = {concept: set() for concept in allowed(target, task)}
    for seed in range(60):
        for image, concept in choose(clusters, target, task, seed=seed):
            seen[concept].add(int(image))
    assert seen == allowed(target, task)


def test_clothes_are_chosen_from_the_images_that_show_them(clusters):
    clothed = np.ones(10, bool)
    clothed[[2, 4]] = False  # 2: outfit of 9 and 5; 4: outfit of 0
    seen = {target: set() for target in (9, 0, 2)}
    for target, images in seen.items():
        for seed in range(40):
            rng = np.random.default_rng(seed)
            chosen = references.choose(
                clusters,
                target,
                task="composition",
                faces=2,
                clothes=2,
                rng=rng,
                clothed=clusters.restricted(clothed),
            )
            worn = chosen.mask & (chosen.concepts == CLOTHES)
            images |= set(chosen.images[worn].tolist())
            assert (chosen.mask & (chosen.concepts == FACE)).sum() == 2
    assert seen == {9: {5}, 0: set(), 2: {9, 5}}


VARIANTS = {"9": "s", "2": "s", "4": "s", "1": "t", "6": "t"}  # key of a set, by id


@pytest.mark.parametrize("task", references.TASKS)
@pytest.mark.parametrize("target", range(10))
def test_a_variant_is_never_a_reference(clusters, task, target):
    """2 and 9 are of one outfit of ann and 4 is of another; 1 and 6 are of bob's, with 8."""
    sets = {image: VARIANTS.get(str(image), image) for image in range(10)}
    variant = np.array([min(j for j in sets if sets[j] == sets[i]) for i in range(10)], np.int32)
    clusters = dataclasses.replace(clusters, variant=variant)
    character, outfit = ({i for i in s if sets[i] != sets[target]} for s in sets_of(target))
    expected = {
        "reconstruction": {CHARACTER: {target}},
        "same_identity": {CHARACTER: character},
        "same_outfit": {CHARACTER: outfit},
        "composition": {FACE: (character - sets_of(target)[1]) or character, CLOTHES: outfit},
    }[task]
    seen = {concept: set() for concept in expected}
    for seed in range(60):
        chosen = choose(clusters, target, task, seed=seed)
        assert len(set(chosen)) == len(chosen)
        for image, concept in chosen:
            seen[concept].add(int(image))
    assert seen == expected


def test_a_face_comes_from_the_outfit_where_others_hold_variants_alone():
    clusters = clusters_of({"ann": [["0", "1"], ["2", "3"]]})
    variant = np.array([0, 1, 0, 0], np.int32)
    clusters = dataclasses.replace(clusters, variant=variant)
    assert choose(clusters, 0, "composition") == [(1, FACE), (1, CLOTHES)]


@pytest.mark.parametrize("task", references.TASKS)
@pytest.mark.parametrize("target", range(10))
def test_as_many_as_requested_and_there_are_without_repetition(clusters, task, target):
    requested = {FACE: 2, CLOTHES: 1, CHARACTER: 3}
    for seed in range(5):
        chosen = choose(clusters, target, task, faces=2, clothes=1, seed=seed)
        assert len(set(chosen)) == len(chosen)
        counts = Counter(concept for _, concept in chosen)
        for concept, images in allowed(target, task).items():
            assert counts[concept] == min(requested[concept], len(images))


@pytest.mark.parametrize("task", ["same_identity", "same_outfit", "composition"])
def test_a_single_image_has_no_references(clusters, task):
    assert choose(clusters, 3, task) == []
    rng = np.random.default_rng(0)
    assert not references.choose(clusters, 3, task=task, faces=2, clothes=2, rng=rng).mask.any()


def test_a_single_image_outfit_is_composed_from_faces_alone(clusters):
    assert {concept for _, concept in choose(clusters, 7, "composition")} == {FACE}


def test_faces_of_a_character_with_one_outfit_come_from_it(clusters):
    for seed in range(10):
        chosen = choose(clusters, 8, "composition", seed=seed)
        assert {i for i, c in chosen if c == FACE} == {1, 6}


def test_a_data_set_of_one_character():
    clusters = clusters_of({"ann": [["0", "1"], ["2"]]})
    assert choose(clusters, 0, "composition") == [(2, FACE), (1, CLOTHES)]
    single = clusters_of({"ann": [["0"]]})
    assert choose(single, 0, "composition") == []
    assert choose(single, 0, "reconstruction") == [(0, CHARACTER)]


@pytest.mark.parametrize("task", references.TASKS)
def test_draws_depend_on_the_generator_alone(clusters, task):
    assert choose(clusters, 2, task, seed=5) == choose(clusters, 2, task, seed=5)
    if task not in ("reconstruction", "same_outfit"):
        draws = {tuple(sorted(choose(clusters, 2, task, seed=s))) for s in range(20)}
        assert len(draws) > 1


@pytest.mark.parametrize("count", [1, 3, 20])
def test_choice_is_uniform(count):
    """Both ways to draw: by permutation (20 of 79) and by rejection (1 and 3 of 79)."""
    clusters = clusters_of({"ann": [[f"{i:02d}" for i in range(80)]]})
    rng, draws, counts = np.random.default_rng(0), 3000, np.zeros(80)
    for _ in range(draws):
        chosen = references.choose(
            clusters, 11, task="same_identity", faces=count, clothes=0, rng=rng
        )
        assert chosen.mask.all()
        counts[chosen.images] += 1
    assert counts[11] == 0
    p = count / 79
    spread = np.sqrt(draws * p * (1 - p))
    assert np.abs(np.delete(counts, 11) - draws * p).max() < 4.5 * spread


def test_constant_time_in_the_size_of_the_character():
    ids = [f"{i:06d}" for i in range(20_000)]
    partners = [[ids[i ^ 1]] for i in range(20_000)]
    clusters = from_records(ids, ["ann"] * len(ids), partners)
    drawn = []

    class Counting(np.ndarray):
        def __getitem__(self, key):
            drawn.append(key)
            return super().__getitem__(key)

    order = clusters.order.view(Counting)
    small = references.dataclasses.replace(clusters, order=order)
    rng = np.random.default_rng(0)
    references.choose(small, 9_000, task="composition", faces=3, clothes=1, rng=rng)
    assert len(drawn) == 4 and all(np.isscalar(key) for key in drawn)


def test_no_clothes_wanted_gives_faces_alone(clusters):
    assert {c for _, c in choose(clusters, 2, "composition", faces=2, clothes=0)} == {FACE}


def test_unknown_task_names_the_known(clusters):
    with pytest.raises(ValueError, match="unknown task 'inpainting': use one of reconstruction, "):
        choose(clusters, 0, "inpainting")


def test_padding_is_masked_and_too_many_are_an_error():
    chosen = references.pad([4, 5], [FACE, CLOTHES], 3)
    assert chosen.images.tolist() == [4, 5, 0] and chosen.mask.tolist() == [True, True, False]
    with pytest.raises(ValueError, match="2 references do not fit into 1"):
        references.pad([4, 5], [FACE, CLOTHES], 1)
