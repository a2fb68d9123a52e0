"""The data set `avatars`: what is drawn, what is recorded, and what the splits share."""

import io
import itertools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import dataset_metadata

from tfds_retribooru.avatars import attributes, avatars_dataset_builder, characters, drawing
from tfds_retribooru.clusters import Clusters

FEATURES = [
    *("artists", "attributes", "bbox", "character", "cloths", "id", "image", "mask"),
    *("prompts", "similar"),
]


class TestAvatars(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own test case."""

    DATASET_CLASS = avatars_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        avatars_dataset_builder.AvatarsConfig(name="ten", characters=10, varied=True)
    ]
    SPLITS = {"train": 88, "validation": 8, "test": 24}
    EXAMPLE_DIR = pathlib.Path(__file__).parent  # of downloads: there are none


@pytest.fixture(scope="module")
def records(avatars) -> dict[str, list[dict]]:
    return {split: list(avatars.as_data_source(split=split)) for split in avatars.info.splits}


@pytest.fixture(scope="module")
def everyone() -> list[characters.Portrait]:
    """All portraits of 200 characters, not drawn."""
    return [p for c in range(200) for p in characters.portraits(0, c, varied=False)]


def value_names(avatars, record) -> dict[str, str]:
    labels = avatars.info.features["attributes"]
    return {name: labels[name].int2str(int(v)) for name, v in record["attributes"].items()}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


# --- drawing


@pytest.mark.parametrize("varied", [False, True])
def test_same_seed_draws_same_bytes_in_any_process(varied):
    clusters = [(7, 1), (2, 0)]
    drawn = list(drawing.draw_all(3, clusters, varied=varied))
    expected = [
        p for c, o in clusters for p in characters.portraits(3, c, varied=varied) if p.outfit == o
    ]
    assert [portrait for portrait, *_ in drawn] == expected
    assert [(image, mask) for _, image, mask in drawn] == [drawing.draw(p) for p in expected]


def test_seeds_differ():
    assert characters.portraits(0, 5, varied=False) != characters.portraits(1, 5, varied=False)


def test_failing_process_is_an_error(monkeypatch):
    def broken(*_, **__):
        os._exit(1)

    monkeypatch.setattr(drawing, "draw_cluster", broken)
    with pytest.raises(RuntimeError, match="ended early"):
        list(drawing.draw_all(0, [(0, 0)], varied=False))


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("character", [0, 5, 7, 10])
def test_mask_and_face_box_fit_the_image(character, varied):
    portrait = characters.portraits(0, character, varied=varied)[character]
    image, mask = (pixels(png) for png in drawing.draw(portrait))
    assert (image[mask == 0] == portrait.colors["background"]).all()
    assert (mask == 255).mean() > 0.4 and (mask == 0).mean() > 0.1

    x, y, width, height = drawing.face_box(portrait) * drawing.SIZE
    left, right = round(x - width / 2), round(x + width / 2)
    top, bottom = round(y - height / 2), round(y + height / 2)
    assert 0 <= left < right <= drawing.SIZE and 0 <= top < bottom <= drawing.SIZE
    head = mask[:bottom] > 127
    assert head[top:, left:right].sum() > 0.85 * head.sum()
    skin = np.abs(image.astype(int) - portrait.colors["skin"]).max(axis=-1) <= 1
    assert skin[top:bottom, left:right].mean() > 0.08


@pytest.mark.parametrize("palette", [attributes.PALETTE, attributes.SKIN])
def test_colours_stay_apart_after_jitter(palette):
    distances = [
        np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(*[palette.values()], 2)
    ]
    assert min(distances) > 3 * (2 * characters.JITTER)


def test_a_mirrored_portrait_has_a_mirrored_box():
    portrait = next(p for p in characters.portraits(0, 0, varied=True) if p.flip)
    x, *rest = drawing.face_box(portrait)
    other, *same = drawing.face_box(characters.dataclasses.replace(portrait, flip=False))
    assert x == pytest.approx(1 - other) and rest == same


# --- characters


def test_identity_and_outfit_stay_and_the_rest_changes(everyone):
    for _, images in itertools.groupby(everyone, lambda p: p.character):
        images = list(images)
        assert [(p.outfit, p.image) for p in images] == list(itertools.product(range(3), range(4)))
        for kind, group in [("identity", lambda p: 0), ("outfit", lambda p: p.outfit)]:
            for _, same in itertools.groupby(images, group):
                assert len({tuple(p.values[n] for n in attributes.names(kind)) for p in same}) == 1
        assert len({tuple(p.values[n] for n in attributes.names("free")) for p in images}) == 12
        for name in ("clothing", "clothing_color"):
            assert len({p.values[name] for p in images}) == characters.OUTFITS


def test_background_is_neither_of_hair_nor_of_clothes(everyone):
    for p in everyone:
        assert p.values["background"] not in (p.values["hair_color"], p.values["clothing_color"])


def test_every_value_occurs(everyone):
    for name, attribute in attributes.ATTRIBUTES.items():
        assert {p.values[name] for p in everyone} == set(attribute.values)


def test_only_graphic_shirts_have_a_print(everyone):
    for p in everyone:
        assert (p.values["graphic"] != "none") == (p.values["clothing"] == "graphic shirt")


@pytest.mark.parametrize("count", [24, 1000])
def test_splits_share_no_outfit_and_test_no_character(count):
    splits = characters.splits(count)
    clusters = [cluster for part in splits.values() for cluster in part]
    assert sorted(clusters) == list(itertools.product(range(count), range(characters.OUTFITS)))
    people = {name: {c for c, _ in part} for name, part in splits.items()}
    assert not people["test"] & (people["train"] | people["validation"])
    tenth = max(2, count // 10)  # but for characters that look like others
    assert 0.9 * tenth <= len(people["test"]) <= tenth
    assert len(splits["validation"]) == (count - len(people["test"])) * characters.OUTFITS // 20
    assert splits == characters.splits(count)


def test_nobody_in_test_looks_like_another_character():
    people = {c for c, _ in characters.splits(1000)["test"]}
    looks = [
        tuple(
            characters.portraits(0, c, varied=False)[0].values[n]
            for n in attributes.names("identity")
        )
        for c in range(1000)
    ]
    assert all(looks.count(looks[c]) == 1 for c in people)


# --- vocabulary


def test_tags_say_only_what_is_seen(everyone):
    for p in everyone:
        seen, values = attributes.visible(p.values), p.values
        assert "none" not in seen.values() and "nose" not in seen
        assert ("eyes" in seen) == (values["accessory"] in ("none", "round glasses"))
        hairless = values["hair"] == "bald" and values["facial_hair"] == "none"
        assert ("hair_color" in seen) == (not hairless)
        assert ("eyebrows" in seen) == (values["accessory"] != "white sunglasses")
        printed = values["graphic"] != "none" and values["clothing_color"] != "white"
        assert ("graphic" in seen) == printed
        sometimes = {"eyes", "eyebrows", "hair_color", "graphic", "nose"}
        assert (
            set(values) - set(seen) - sometimes
            == {name for name, value in values.items() if value == "none"} - sometimes
        )


def test_every_tag_has_one_meaning():
    entries = attributes.vocabulary()
    taggable = sum(
        value != "none" for a in attributes.ATTRIBUTES.values() if a.tag for value in a.values
    )
    assert len(entries["tags"]) == taggable
    for entry in entries["tags"].values():
        question = entries["questions"][entry["attribute"]]
        assert question.endswith("?") and question == question.lower()


# --- records


def test_features_are_those_documented(avatars):
    assert sorted(avatars.info.features) == FEATURES
    assert sorted(avatars.info.features["attributes"]) == sorted(attributes.ATTRIBUTES)
    sizes = {name: split.num_examples for name, split in avatars.info.splits.items()}
    assert sizes == {"train": 252, "validation": 12, "test": 24}


def test_description_and_citation_are_found(avatars):
    assert avatars.info.description.startswith("Illustrated portraits")
    assert "2312.02521" in avatars.info.citation
    tags = avatars.get_metadata().tags
    assert tags and set(tags) <= set(dataset_metadata.valid_tags())


def test_images_are_distinct(records):
    images = [r["image"].tobytes() for part in records.values() for r in part]
    assert len(set(images)) == len(images) == 24 * 12


def test_records_hold_the_portraits(avatars, records):
    portraits = {p.id: p for c in range(24) for p in characters.portraits(0, c, varied=False)}
    for record in itertools.chain(*records.values()):
        portrait = portraits.pop(record["id"].decode())
        assert value_names(avatars, record) == portrait.values
        assert record["character"].decode() == portrait.name
        np.testing.assert_array_equal(record["bbox"], drawing.face_box(portrait))
        assert record["mask"].shape == (128, 128, 1)
        background = record["image"][record["mask"][..., 0] == 0]
        assert (background == portrait.colors["background"]).all()
    assert not portraits


def test_prompts_agree_with_attributes(avatars, records):
    meaning = json.loads((avatars.data_path / "vocabulary.json").read_text())["tags"]
    for record in itertools.chain(*records.values()):
        values = value_names(avatars, record)
        first, *tags = record["prompts"].decode().split(", ")
        assert first == "solo"
        said = {meaning[tag]["attribute"]: meaning[tag]["answer"] for tag in tags}
        assert said == attributes.visible(values) and len(said) == len(tags)
        cloths = [tag.decode() for tag in record["cloths"]]
        assert cloths == [tag for tag in tags if meaning[tag]["kind"] == "outfit"]


def test_similar_stays_in_the_split_and_in_the_outfit(records):
    for part in records.values():
        by_id = {r["id"].decode(): r for r in part}
        for name, record in by_id.items():
            partners = [s.decode() for s in record["similar"]]
            assert len(partners) == 3 and name not in partners
            for partner in partners:  # KeyError: the partner is in another split
                assert by_id[partner]["character"] == record["character"]
                assert list(by_id[partner]["cloths"]) == list(record["cloths"])


def test_clusters_are_by_position(avatars, records):
    for split, part in records.items():
        clusters = Clusters.load(avatars.data_path / f"clusters-{split}.npz")
        assert len(clusters) == len(part)
        for i, record in enumerate(part):
            assert clusters.names[clusters.character[i]] == record["character"].decode()
            outfit = {part[j]["id"] for j in clusters.same_outfit(i)}
            assert outfit == {record["id"], *record["similar"]}


# --- TFDS


def test_tfds_data_source_and_load_find_the_data_set(avatars_dir):
    program = """if True:
        import sys
        import tensorflow_datasets as tfds
        import tfds_retribooru
        source = tfds.data_source("avatars/tiny", split="test", data_dir=sys.argv[1])
        picture = source[3]["image"]
        assert "tensorflow" not in sys.modules
        dataset = tfds.load("avatars/tiny", split="test", data_dir=sys.argv[1], download=False)
        records = list(dataset.as_numpy_iterator())
        assert len(records) == len(source) == 24
        assert (records[3]["image"] == picture).all()
        assert records[3].keys() == source[3].keys()
    """
    subprocess.run([sys.executable, "-c", program, str(avatars_dir)], check=True)


def test_tfds_load_slices_shuffles_and_decodes_in_part(avatars, records):
    part = tfds.decode.PartialDecoding({"id": True})
    config = tfds.ReadConfig(shuffle_seed=1)
    read = avatars.as_dataset("test[:9]", decoders=part, read_config=config, shuffle_files=True)
    ids = [record["id"] for record in read.as_numpy_iterator()]
    stored = [record["id"] for record in records["test"][:9]]
    assert ids != stored and sorted(ids) == sorted(stored)
    raw = avatars.as_dataset("test", decoders={"mask": tfds.decode.SkipDecoding()})
    assert next(raw.as_numpy_iterator())["mask"].startswith(b"\x89PNG")


def test_varied_is_of_the_same_people():
    def who(p):
        return p.values, {k: v for k, v in p.colors.items() if k != "background"}

    centered, varied = (characters.portraits(0, 4, varied=v) for v in (False, True))
    assert list(map(who, centered)) == list(map(who, varied))
    assert len({(p.left, p.top, p.side) for p in varied}) == 12
    assert len({(p.flip, p.left, p.top, p.side) for p in centered}) == 1
    assert {p.flip for p in varied} == {False, True}
    assert all(p.top + p.side == 280 for p in varied + centered)
