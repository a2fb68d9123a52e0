"""Variant sets: found from links and from pictures, kept by collections and builds, counted."""

import dataclasses
import json

import imagehash
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageEnhance

from tests.helpers import danbooru_dump, retribooru_folder
from tfds_retribooru import describe, variants
from tfds_retribooru.avatars import attributes, drawing
from tfds_retribooru.avatars.characters import Population, characters
from tfds_retribooru.avatars.portraits import portraits
from tfds_retribooru.clusters import Clusters
from tfds_retribooru.collect import danbooru, near_duplicates, run_local
from tfds_retribooru.collect.settings import Settings

GREY = b"\x80"  # of Cb and Cr


def retouched(image: Image.Image, colour="red") -> Image.Image:
    """The same drawing with another mouth."""
    copy, (width, height) = image.copy(), image.size
    box = [0.475 * width, 0.3 * height, 0.525 * width, 0.32 * height]
    ImageDraw.Draw(copy).ellipse(box, fill=colour)
    return copy


def test_links_connect_through_posts_that_are_unknown():
    links = [("5", "9"), ("7", "9"), ("1", "2"), ("2", "3")]
    assert variants.roots(links) == {"5": "5", "7": "5", "9": "5", "1": "1", "2": "1", "3": "1"}
    assert variants.roots([]) == {}


def test_sets_are_those_of_one_key_or_of_near_hashes():
    rng = np.random.default_rng(0)
    bits = rng.integers(2, size=(5, 256), dtype=np.uint8)
    bits[3] = bits[0]
    bits[3, : variants.DISTANCE] ^= 1
    bits[4] = bits[0]
    bits[4, 100 : 101 + variants.DISTANCE] ^= 1
    hashes = [np.packbits(row).tobytes().ljust(variants.SIZE, GREY) for row in bits]
    assert variants.sets("abcde", [*hashes]).tolist() == [0, 1, 2, 0, 4]
    assert variants.sets("abbde", [None, *hashes[1:3], hashes[0], None]).tolist() == [0, 1, 1, 3, 4]
    assert variants.sets("aabcd", [*hashes[:4], None]).tolist() == [0, 0, 2, 0, 4]
    assert variants.sets([], []).tolist() == []


def test_hashes_of_an_older_version_are_those_of_grey_pictures(tmp_path):
    lines = [{"id": name, "relatives": [], "hash": "0f" * 32} for name in "ab"]
    (tmp_path / variants.NAME).write_text("\n".join(map(json.dumps, lines)))
    _, hashes = variants.read(tmp_path)
    assert variants.sets("ab", [*hashes.values()]).tolist() == [0, 0]
    colours = np.full((6, 6, 2), 128, np.uint8)
    colours[2:5, 2:4] = 90, 240
    red = hashes["a"][:32] + colours.tobytes()
    assert variants.sets("ab", [hashes["a"], red]).tolist() == [0, 0]


def test_many_pictures_are_compared_in_parts():
    hashes = [(bytes([k % 251]) * 32).ljust(variants.SIZE, GREY) for k in range(1200)]
    found = variants.sets(range(1200), hashes)
    assert found.tolist() == [k % 251 for k in range(1200)]


def test_many_near_copies_are_compared_once_each(monkeypatch):
    """2,000 frames of a film: two million pairs, of which few are needed to connect them."""
    rng = np.random.default_rng(0)
    colours = rng.integers(126, 131, (2000, variants.SIZE - 32), dtype=np.uint8)
    original, compared = variants.recoloured, []

    def recoloured(hashes, pairs):
        compared.append(len(pairs))
        return original(hashes, pairs)

    monkeypatch.setattr(variants, "recoloured", recoloured)
    found = variants.sets(range(2000), [b"a" * 32 + row.tobytes() for row in colours])
    assert not found.any() and sum(compared) < 1_000_000


@pytest.mark.parametrize("size, mode", [((127, 300), "RGB"), ((40, 30), "RGB"), ((90, 70), "L")])
def test_the_hash_of_a_small_picture_is_that_of_imagehash(size, mode):
    image = retribooru_folder.draw_detailed(1, size).convert(mode)
    expected = imagehash.phash(image, hash_size=variants.SIDE).hash
    found = np.unpackbits(np.frombuffer(variants.perceptual_hash(image)[:32], np.uint8))
    assert (found.reshape(expected.shape) != expected).sum() <= 1  # sums in another order


@pytest.mark.parametrize("factor", [2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_hash_of_a_large_picture_is_that_of_the_same_picture_shrunk(seed, factor):
    image = retribooru_folder.draw_detailed(seed, (300 * factor, 400 * factor))
    small = image.resize((300, 400), Image.Resampling.BOX)
    one, other = (variants.perceptual_hash(i) for i in (image, small))
    assert near_duplicates.near_copies([one, other], np.arange(2)).tolist() == [False, True]


@pytest.mark.parametrize("seed", range(8))
def test_a_drawing_with_another_mouth_is_a_variant_and_another_drawing_is_none(seed):
    one, other = (retribooru_folder.draw_detailed(100 + 2 * seed + k) for k in (0, 1))
    hashes = [variants.perceptual_hash(i) for i in (one, retouched(one), other)]
    assert variants.sets("abc", hashes).tolist() == [0, 0, 2]


def portrait(**values: str) -> Image.Image:
    """An avatar with some attributes set."""
    first = portraits(0, characters(Population(count=20))[3], varied=False)[0]
    colors = {
        name.removesuffix("_color"): attributes.PALETTE[value]
        for name, value in values.items()
        if value in attributes.PALETTE
    }
    changed = dataclasses.replace(first, values=first.values | values, colors=first.colors | colors)
    return drawing.rasterise(changed)[0].convert("RGB")


@pytest.mark.parametrize(
    "change, is_one",
    [
        ({"mouth": "smile"}, True),
        ({"background": "green"}, True),
        ({"clothing_color": "orange"}, False),
        ({"clothing_color": "pink"}, False),
    ],
)
def test_a_drawing_in_other_clothes_is_no_variant(change, is_one):
    hashes = [variants.perceptual_hash(portrait(**values)) for values in ({}, change)]
    near = [value[: variants.BITS].ljust(variants.SIZE, GREY) for value in hashes]
    assert variants.sets("ab", near).tolist() == [0, 0]  # without colours they would be
    assert variants.sets("ab", hashes).tolist() == [0, 0 if is_one else 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: ImageEnhance.Color(image).enhance(0),
        lambda image: ImageEnhance.Color(image).enhance(1.4),
        lambda image: ImageEnhance.Color(image).enhance(0.7),
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
        lambda image: Image.blend(image, Image.new("RGB", image.size, "orange"), 0.2),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_grading_makes_no_other_drawing(change, seed):
    image = retribooru_folder.draw_detailed(seed)
    hashes = [variants.perceptual_hash(i) for i in (image, change(image))]
    assert variants.sets("ab", hashes).tolist() == [0, 0]


@pytest.mark.parametrize(
    "change, relatives",
    [
        ({"parent_id": 5}, (5,)),
        ({"parent_id": "5", "has_children": True}, (5,)),
        ({"parent_id": None}, ()),
        ({"parent_id": 0}, ()),
        ({"children_ids": "7 8", "parent_id": 5}, (5, 7, 8)),
        ({"children": [7, "8"]}, (7, 8)),
        ({"relationships": {"parent_id": 5, "has_children": True, "children": [7]}}, (5, 7)),
        ({"relationships": {"parent_id": None, "children": []}}, ()),
        ({"parent_id": 5.0, "children": "7,8"}, (5, 7, 8)),  # a table's column of floats
        ({"parent_id": float("nan"), "parent": {"id": 5}, "children": [{"id": 7}]}, (5, 7)),
        ({"parent_id": "", "children": [None, "x", 7.0]}, (7,)),
    ],
)
def test_parent_and_children_are_read_in_every_dialect(change, relatives):
    assert danbooru.parse(danbooru_dump.post(1) | change).relatives == relatives


def posts() -> list[dict]:
    """Sets: 1, 2, 3 by a parent that is dropped; 4, 5; in another outfit, of no other: 20, 21."""
    made = [danbooru_dump.post(name) for name in (1, 2, 3, 4, 5, 6)]
    for k in (0, 1):
        made[k]["parent_id"] = 90
    made[4]["parent_id"] = 4
    grandparent = danbooru_dump.post(90, rating="e", children_ids="1 3")
    other = " ".join(danbooru_dump.OTHER)
    pair = [danbooru_dump.post(k, tag_string_general=other, parent_id=30) for k in (20, 21)]
    return [*made, grandparent, *pair]


EXPECTED = {
    "1": (["4", "5", "6"], None),
    "2": (["4", "5", "6"], "1"),
    "3": (["4", "5", "6"], "1"),
    "4": (["6", "1", "2", "3"], None),
    "5": (["6", "1", "2", "3"], "4"),
    "6": (["1", "2", "3", "4", "5"], None),
}


def collected(tmp_path, made, **options) -> tuple[dict, list]:
    path = tmp_path / "posts.json"
    path.write_text("\n".join(map(json.dumps, made)))
    run_local.collect(Settings((str(path),), tmp_path / "out", **options))
    found, dropped = danbooru_dump.read(tmp_path / "out")
    return {k: (r["similar"], r.get("parent_id")) for k, r in found.items()}, dropped


def test_variants_are_no_partners_in_a_collection(tmp_path):
    found, dropped = collected(tmp_path, posts())
    assert found == EXPECTED
    reasons = {name: reason for _, _, name, reason in dropped}
    assert reasons == {"90": "rating", "20": "no_partner", "21": "no_partner"}


def test_with_images_retouched_drawings_are_no_partners(tmp_path):
    image = retribooru_folder.draw_detailed(1)
    folder = tmp_path / "images"
    folder.mkdir()
    pictures = [image, retouched(image), retribooru_folder.draw_detailed(2)]
    for name, picture in enumerate(pictures, 1):
        picture.save(folder / f"{name}.png")
    made = [danbooru_dump.post(name) for name in (1, 2, 3)]
    found, _ = collected(tmp_path, made, images=folder, distance=0)
    assert found == {"1": (["3"], None), "2": (["3"], "1"), "3": (["1", "2"], None)}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """12 characters; in each outfit the second picture is linked, the third is retouched."""
    data_dir = tmp_path_factory.mktemp("variants")
    root = data_dir / "downloads" / "manual" / "retribooru"
    made = retribooru_folder.records(12)
    retribooru_folder.write(root, made, masks=False)
    for first, second, third in zip(made[::3], made[1::3], made[2::3], strict=True):
        second["parent_id"], first["parent_id"] = int(f"9{first['id']}"), f"9{first['id']}"
        if first["character"] == "girl_1_(test)":
            image = retribooru_folder.draw_detailed(int(first["id"]))
            image.save(root / "images" / f"{first['id']}.png")
            retouched(image).save(root / "images" / f"{third['id']}.png")
    (root / "annotations" / "all.json").write_text("\n".join(map(json.dumps, made)))
    builder = tfds.builder("retribooru/384", data_dir=data_dir)
    builder.download_and_prepare()
    return builder, made


def test_a_build_keeps_the_sets(built):
    builder, made = built
    for split in builder.info.splits:
        clusters = Clusters.of_split(builder.data_path, split)
        ids = [record["id"].decode() for record in builder.as_data_source(split)]
        for i, name in enumerate(ids):
            number = int(name) % 10
            group = {0, 1, 2} if name[:2] == "61" else {0, 1} if number < 2 else {2}
            expected = {f"{name[:-1]}{k}" for k in group}
            assert {ids[j] for j in clusters.variants_of(i)} == expected


def test_variants_are_counted_by_describe_and_told_by_the_build(built, capsys):
    builder, _ = built
    found = describe.statistics(builder)
    assert (found["variants"], found["variant_sets"]) == (2 * 24 + 2, 24)
    assert "50 images in 24 variant sets" in describe.table(found)


def test_lost_clusters_are_made_again_with_the_sets(built, tmp_path):
    builder, _ = built
    path = builder.data_path / "clusters-train.npz"
    before = Clusters.load(path)
    path.unlink()
    tfds.builder("retribooru/384", data_dir=builder.data_path.parents[2]).download_and_prepare()
    np.testing.assert_array_equal(Clusters.load(path).variant, before.variant)


def test_clusters_of_an_older_data_set_have_no_variants(built, tmp_path):
    builder, _ = built
    with np.load(builder.data_path / "clusters-train.npz") as arrays:
        older = {name: arrays[name] for name in arrays if name != "variant"}
    np.savez(tmp_path / "clusters-train.npz", **older)
    clusters = Clusters.load(tmp_path / "clusters-train.npz")
    assert [clusters.variants_of(i).tolist() for i in range(3)] == [[0], [1], [2]]
    assert clusters.variant_set_sizes.tolist() == []
    assert all(getattr(clusters, f.name) is not None for f in dataclasses.fields(clusters))


def test_variants_in_other_outfits_are_of_the_same_split(tmp_path):
    from tfds_retribooru.building import examples
    from tfds_retribooru.building.records import Record

    rows = [(f"{c}{k:03d}", f"girl_{c}") for c in range(10, 40) for k in range(20)]
    alone = [Record(name, who) for name, who in rows]
    linked = [Record(n, who, relatives=(f"9{n[:-1]}{int(n[-1]) // 2}",)) for n, who in rows]
    keys = variants.roots((record.id, name) for record in linked for name in record.relatives)
    joined = examples._joined(linked, [()] * len(linked), keys)
    assert examples._joined(alone, [()] * len(alone), {}) == [()] * len(alone)
    assert joined[:4] == [(), ("10000",), (), ("10002",)]
