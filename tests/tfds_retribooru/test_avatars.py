"""The data set `avatars`: what is drawn, what is recorded, and what the splits share."""

import dataclasses
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

from tfds_retribooru.avatars import (
    attributes,
    avatars_dataset_builder,
    characters,
    drawing,
    held_out,
    portraits,
)
from tfds_retribooru.avatars.characters import OUT_OF_DOMAIN, Population
from tfds_retribooru.clusters import Clusters

FEATURES = [
    *("artists", "attributes", "bbox", "character", "cloths", "id", "image", "mask"),
    *("prompts", "similar"),
]


class TestAvatars(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own test case."""

    DATASET_CLASS = avatars_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        avatars_dataset_builder.AvatarsConfig(name="twenty", characters=20, varied=True, size=32)
    ]
    SPLITS = {"train": 180, "validation": 12, "test": 24, OUT_OF_DOMAIN: 24}
    EXAMPLE_DIR = pathlib.Path(__file__).parent  # of downloads: there are none


@pytest.fixture(scope="module")
def records(avatars) -> dict[str, list[dict]]:
    return {split: list(avatars.as_data_source(split=split)) for split in avatars.info.splits}


@pytest.fixture(scope="module")
def everyone() -> list[portraits.Portrait]:
    """All portraits of 200 characters, not drawn."""
    people = characters.characters(Population(count=200))
    return [p for c in people for p in portraits.portraits(0, c, varied=False)]


def portraits_of(number, *, seed=0, varied=False) -> list[portraits.Portrait]:
    character = characters.characters(Population(seed, 24))[number]
    return portraits.portraits(seed, character, varied=varied)


def value_names(avatars, record) -> dict[str, str]:
    labels = avatars.info.features["attributes"]
    return {name: labels[name].int2str(int(v)) for name, v in record["attributes"].items()}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


# --- drawing


@pytest.mark.parametrize("varied", [False, True])
def test_same_seed_draws_same_bytes_in_any_process(varied):
    everyone = characters.characters(Population(3, 24))
    people = [everyone[7], everyone[2]]
    drawn = list(drawing.draw_all(3, people, varied=varied))
    expected = [p for c in people for p in portraits.portraits(3, c, varied=varied)]
    assert [portrait for portrait, *_ in drawn] == expected
    assert [(image, mask) for _, image, mask in drawn] == [drawing.draw(p) for p in expected]


def test_seeds_differ():
    first, second = (portraits_of(5, seed=seed) for seed in (0, 1))
    assert [p.values for p in first] != [p.values for p in second]


def test_failing_process_is_an_error(monkeypatch):
    def broken(*_, **__):
        os._exit(1)

    monkeypatch.setattr(drawing, "draw_character", broken)
    monkeypatch.setattr(drawing.joblib, "cpu_count", lambda: 2)
    people = characters.characters(Population(count=20))[:1]
    with pytest.raises(ChildProcessError, match="ended early"):
        list(drawing.draw_all(0, people, varied=False))


@pytest.mark.parametrize("varied", ["centered", "varied"])
@pytest.mark.parametrize("number", [0, 5, 7, 10])
def test_mask_and_face_box_fit_the_image(number, varied):
    for portrait in portraits_of(number, varied=varied)[number::5]:
        image, mask = (pixels(png) for png in drawing.draw(portrait))
        assert (image[mask == 0] == portrait.colors["background"]).all()
        assert (mask == 255).mean() > 0.2 and (mask == 0).mean() > 0.1

        x, y, width, height = drawing.face_box(portrait) * drawing.SIZE
        left, right = round(x - width / 2), round(x + width / 2)
        top, bottom = round(y - height / 2), round(y + height / 2)
        assert 0 <= left < right <= drawing.SIZE and 0 <= top < bottom <= drawing.SIZE
        head = mask[:bottom] > 127
        assert head[top:, left:right].sum() > 0.85 * head.sum()
        skin = np.abs(image.astype(int) - portrait.colors["skin"]).max(axis=-1) <= 1
        assert skin[top:bottom, left:right].mean() > 0.08


def test_a_larger_picture_shows_the_same():
    portrait = portraits_of(3, varied=True)[2]
    small, large = (drawing.rasterise(portrait, size) for size in (64, 256))
    for one, other in zip(small, large, strict=True):
        reduced = np.asarray(other.reduce(4), float)
        assert reduced.shape[:2] == one.size
        assert np.abs(reduced - np.asarray(one, float)).mean() < 2


def test_a_moving_figure_shows_face_and_clothes_and_stands_on_the_lower_edge():
    """Positions are measured on drawings of bald heads: skin's top, print and lowest row."""
    rng = np.random.default_rng(0)
    plain = portraits_of(0)[0]
    values = {**plain.values, "hair": "bald", "facial_hair": "none", "accessory": "none"}
    values |= {"clothing": "graphic shirt", "graphic": "diamond", "clothing_color": "blue"}
    colors = {"hair": (9, 9, 9), "skin": (224, 172, 124), "clothing": (0, 0, 255)}
    heights, middles, sizes = [], [], []
    for _ in range(60):
        frame = portraits.moving_frame(rng)
        colors["background"] = (0, 255, 0)
        portrait = dataclasses.replace(plain, values=values, colors=dict(colors), frame=frame)
        image, mask = (np.asarray(i).astype(int) for i in drawing.rasterise(portrait))
        assert (mask[-1] == 255).mean() > 0.45  # shoulders
        rows, columns = np.nonzero(np.abs(image - colors["skin"]).max(axis=-1) <= 1)
        assert columns.min() > 3 and columns.max() < 124  # both ears
        heights.append(rows.min())
        middles.append((columns.min() + columns.max()) / 2)
        sizes.append(columns.max() - columns.min())
        white = (image.min(axis=-1) > 200) & (np.arange(128)[:, None] > rows.max())
        assert white.any() and not white[-1].any()  # the print ends above the edge
    assert np.ptp(middles) > 0.2 * 128 and np.ptp(heights) > 0.2 * 128
    assert max(sizes) > 1.4 * min(sizes)


@pytest.mark.parametrize("palette", [attributes.PALETTE, attributes.SKIN])
def test_colours_stay_apart_after_jitter(palette):
    distances = [
        np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(*[palette.values()], 2)
    ]
    assert min(distances) > 3 * (2 * characters.JITTER)


def test_a_mirrored_portrait_has_a_mirrored_box():
    portrait = next(p for p in portraits_of(0, varied=True) if p.frame.flip)
    x, *rest = drawing.face_box(portrait)
    frame = dataclasses.replace(portrait.frame, flip=False)
    other, *same = drawing.face_box(dataclasses.replace(portrait, frame=frame))
    assert x == pytest.approx(1 - other) and rest == same


# --- characters


def test_identity_and_outfit_stay_and_the_rest_changes(everyone):
    for _, images in itertools.groupby(everyone, lambda p: p.character.number):
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


# --- splits, counted again from what the characters are, not by the code that chose them


def seen_and_tagged(portrait) -> dict[str, str]:
    """What a judge may be asked of the identity, written out."""
    values = {n: v for n, v in portrait.values.items() if v != "none"}
    kept = {n: values[n] for n in ("hair", "skin", "accessory", "facial_hair") if n in values}
    if values["hair"] != "bald" or "facial_hair" in values:
        kept["hair_color"] = values["hair_color"]
    return kept


@pytest.fixture(scope="module")
def portraits_by_split() -> dict[str, list[list[portraits.Portrait]]]:
    """The portraits of each character of the default population."""
    return {
        name: [portraits.portraits(0, c, varied=False) for c in people]
        for name, people in characters.splits(Population()).items()
    }


def test_sizes_of_splits(portraits_by_split):
    sizes = {name: len(people) for name, people in portraits_by_split.items()}
    assert sizes == {"train": 750, "validation": 50, "test": 100, OUT_OF_DOMAIN: 100}
    numbers = [p[0].character.number for people in portraits_by_split.values() for p in people]
    assert sorted(numbers) == list(range(1000))


def test_no_two_characters_can_be_taken_for_each_other(portraits_by_split):
    everyone = [p[0] for people in portraits_by_split.values() for p in people]
    assert len({frozenset(seen_and_tagged(p).items()) for p in everyone}) == 1000


def pairs(people) -> dict[tuple[str, str], set]:
    """The values of the two attributes that were seen together."""
    return {
        (a, b): {(p.values[a], p.values[b]) for images in people for p in images}
        for a, b in (("hair", "hair_color"), ("clothing", "clothing_color"))
    }


@pytest.mark.parametrize("split", ["validation", "test"])
def test_in_domain_splits_show_only_what_training_has(portraits_by_split, split):
    known = pairs(portraits_by_split["train"])
    for names, found in pairs(portraits_by_split[split]).items():
        assert found <= known[names]
    for name in attributes.ATTRIBUTES:
        train, other = (
            {p.values[name] for images in portraits_by_split[part] for p in images}
            for part in ("train", split)
        )
        assert other <= train


def test_out_of_domain_characters_and_outfits_show_what_training_lacks(portraits_by_split):
    known = pairs(portraits_by_split["train"])
    for images in portraits_by_split[OUT_OF_DOMAIN]:
        for p in images:
            for (value, color), found in known.items():
                assert (p.values[value], p.values[color]) not in found
            assert held_out.held_out(p.character.values) and held_out.held_out(p.values)


def test_one_hairstyle_and_one_garment_are_held_out_whole_and_no_other_value(portraits_by_split):
    unseen = {}
    for name, attribute in attributes.ATTRIBUTES.items():
        train, other = (
            {p.values[name] for images in portraits_by_split[part] for p in images}
            for part in ("train", OUT_OF_DOMAIN)
        )
        unseen[name] = set(attribute.values) - train
        assert unseen[name] <= other
    assert {n: len(v) for n, v in unseen.items() if v} == {"hair": 1, "clothing": 1}


def test_held_out_names_what_is_rare_and_nothing_of_the_others(portraits_by_split):
    for split, people in portraits_by_split.items():
        if split != OUT_OF_DOMAIN:
            assert not any(held_out.held_out(p.values) for images in people for p in images)
    named = {c for images in portraits_by_split[OUT_OF_DOMAIN] for p in images
             for c in held_out.held_out(p.values)}  # fmt: skip
    assert named == set(held_out.combinations(0))
    assert held_out.combinations(0) != held_out.combinations(1)


def test_a_smaller_population_is_the_beginning_of_a_larger_one():
    assert characters.characters(Population(count=24)) == characters.characters(Population())[:24]


@pytest.mark.parametrize("name", ["base", "whole"])
def test_who_trains_other_models_looks_like_nobody_evaluated(portraits_by_split, name):
    population = avatars_dataset_builder.Builder.builder_configs[name].population
    assert population.seed != Population().seed
    evaluated = {
        frozenset(seen_and_tagged(images[0]).items())
        for split, people in portraits_by_split.items()
        if split != "train"
        for images in people
    }
    people = characters.characters(population)
    known = {frozenset(c.looks) for c in people}
    assert len(known) == len(people) and not known & evaluated


def test_the_base_has_all_values_and_combinations():
    base = avatars_dataset_builder.Builder.builder_configs["base"].population
    splits = characters.splits(base)
    assert {name: len(people) for name, people in splits.items()} == {
        "train": 1900,
        "validation": 100,
    }
    first = [portraits.portraits(base.seed, c, varied=False) for c in splits["train"]]
    for names, found in pairs(first).items():
        counts = [len(attributes.ATTRIBUTES[n].values) for n in names]
        assert len(found) >= counts[0] * counts[1] - 12  # but for colours of bald heads


@pytest.mark.parametrize("count", [19, 3001])
def test_a_number_of_characters_that_cannot_be_is_an_error(count):
    with pytest.raises(ValueError, match=f"{count} characters: give 20 to 3,000"):
        characters.characters(Population(count=count))


# --- vocabulary


def test_tags_say_only_what_is_seen(everyone):
    for p in everyone:
        seen, values = attributes.visible(p.values), p.values
        assert "none" not in seen.values() and "nose" not in seen
        assert ("eyes" in seen) == (values["accessory"] in ("none", "round glasses"))
        hairless = values["hair"] == "bald" and values["facial_hair"] == "none"
        assert ("hair_color" in seen) == (not hairless)
        sunglasses = values["accessory"] in ("white sunglasses", "black sunglasses")
        assert ("eyebrows" in seen) == (not sunglasses and values["hair"] != "wavy hair")
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
    assert sizes == {"train": 216, "validation": 24, "test": 24, OUT_OF_DOMAIN: 24}


def test_description_and_citation_are_found(avatars):
    assert avatars.info.description.startswith("Illustrated portraits")
    assert "2312.02521" in avatars.info.citation
    tags = avatars.get_metadata().tags
    assert tags and set(tags) <= set(dataset_metadata.valid_tags())


def test_images_are_distinct(records):
    images = [r["image"].tobytes() for part in records.values() for r in part]
    assert len(set(images)) == len(images) == 24 * 12


def test_records_hold_the_portraits(avatars, records):
    expected = {p.id: p for number in range(24) for p in portraits_of(number)}
    for record in itertools.chain(*records.values()):
        portrait = expected.pop(record["id"].decode())
        assert value_names(avatars, record) == portrait.values
        assert record["character"].decode() == portrait.character.name
        np.testing.assert_array_equal(record["bbox"], drawing.face_box(portrait))
        assert record["mask"].shape == (128, 128, 1)
        background = record["image"][record["mask"][..., 0] == 0]
        assert (background == portrait.colors["background"]).all()
    assert not expected


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

    centered, varied = (portraits_of(4, varied=v) for v in (False, True))
    assert list(map(who, centered)) == list(map(who, varied))
    assert len({p.frame for p in varied}) == 12
    assert len({p.frame for p in centered}) == 1
    assert {p.frame.flip for p in varied} == {False, True}


def test_the_vocabulary_names_what_is_held_out(avatars):
    found = json.loads((avatars.data_path / "vocabulary.json").read_text())["held_out"]
    assert [tuple(c.items()) for c in found.values()] == list(held_out.combinations(0))
    assert all(", ".join(attributes.tag(*pair) for pair in c.items()) == name
               for name, c in found.items())  # fmt: skip
