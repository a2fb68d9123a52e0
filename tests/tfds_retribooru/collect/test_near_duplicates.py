"""Copies: the search against all pairs, and the hash on images that were really changed."""

import io

import numpy as np
import pytest
from PIL import Image

from tfds_retribooru import variants
from tfds_retribooru.collect import near_duplicates

GREY = b"\x80"


def hashes(count: int, seed: int) -> list[bytes]:
    """Random hashes without colours; about half are another one with 1 to 20 bits changed."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(2, size=(count, 256), dtype=np.uint8)
    for i in range(count // 2, count):
        bits[i] = bits[rng.integers(i)]
        changed = rng.choice(256, rng.integers(0, 21), replace=False)
        bits[i, changed] ^= 1
    return [np.packbits(row).tobytes().ljust(variants.SIZE, GREY) for row in bits]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", [0, 3, 10])
def test_near_copies_are_those_that_comparing_all_pairs_finds(seed, distance):
    rng = np.random.default_rng(seed)
    found, ids = hashes(120, seed), rng.permutation(1000)[:120]
    bits = np.unpackbits(np.array([list(h) for h in found], np.uint8)[:, :32], axis=1)
    apart = (bits[:, None] != bits).sum(axis=-1)
    earlier = ids[:, None] > ids
    expected = ((apart <= distance) & earlier).any(axis=1)
    assert 0 < expected.sum() < 120
    np.testing.assert_array_equal(near_duplicates.near_copies(found, ids, distance), expected)


def test_many_equal_hashes_are_compared_once():
    found = [bytes([k] * 32).ljust(variants.SIZE, GREY) for k in (1, 84, 200)] * 20_000
    copies = near_duplicates.near_copies(found, np.arange(len(found))[::-1])
    assert (~copies).sum() == 3 and not copies[-3:].any()


def test_a_drawing_in_other_colours_is_no_copy():
    colours = np.full((3, 6, 6, 2), 128, np.uint8)
    colours[:, 2:5, 2:4] = [[[[90, 240]]], [[[240, 90]]], [[[91, 239]]]]
    found = [b"a" * 32 + part.tobytes() for part in colours]
    assert near_duplicates.near_copies(found, np.arange(3)).tolist() == [False, False, True]


def test_a_pair_is_compared_once_though_several_bands_are_equal():
    found = np.zeros((40, 32), np.uint8)
    pairs = [tuple(p) for part in near_duplicates._pairs(found, 7) for p in np.stack(part, 1)]
    assert len(pairs) == len(set(pairs)) == 40 * 39 // 2


def test_no_images_have_no_copies():
    assert near_duplicates.near_copies([], np.array([], int)).shape == (0,)


def test_the_search_compares_few_pairs_of_a_large_collection():
    found = np.random.default_rng(0).integers(256, size=(50_000, 32), dtype=np.uint8)
    compared = sum(
        len(first) for first, _ in near_duplicates._pairs(found, near_duplicates.DISTANCE + 1)
    )
    assert compared < 5 * len(found)  # all pairs would be 25,000 for each image


def test_first_of_equal_keeps_the_least():
    keys = np.array(["b", "a", "", "b", "", "a", "c"], "S2")
    order = np.array([5, 9, 1, 3, 2, 4, 6])
    expected = [False, False, True, True, True, True, True]
    assert near_duplicates.first_of_equal(keys, order).tolist() == expected
    numbers = np.array([4, 4, 0, 0, 7])
    assert near_duplicates.first_of_equal(numbers, np.arange(5)).tolist() == [1, 0, 1, 0, 1]


@pytest.fixture(scope="module")
def images(avatars) -> list[Image.Image]:
    return [Image.fromarray(r["image"]) for r in avatars.as_data_source("test")]


def changed(image: Image.Image, side: int, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.resize((side, side)).save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize(("side", "quality"), [(128, 60), (96, 85), (256, 75)])
def test_rescaled_and_recompressed_images_are_copies(images, side, quality):
    originals = [variants.perceptual_hash(p) for p in images]
    copies = [variants.perceptual_hash(changed(p, side, quality)) for p in images]
    assert {len(h) for h in originals} == {variants.SIZE}
    found = [
        near_duplicates.near_copies(pair, np.arange(2)).tolist()
        for pair in zip(originals, copies, strict=True)
    ]
    assert np.mean([pair == [False, True] for pair in found]) >= 0.75


def test_images_of_one_character_are_no_copies(images):
    originals = [variants.perceptual_hash(p) for p in images]
    assert near_duplicates.near_copies(originals, np.arange(len(originals))).sum() <= 1
