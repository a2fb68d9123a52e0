"""Pictures, masks and metadata as other tools lay them out, through the documented commands."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.helpers import danbooru_dump, retribooru_folder
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.collect import __main__ as collect
from tfds_retribooru.folder import layout as folder_layout
from tfds_retribooru.retribooru import layout


@pytest.mark.parametrize(
    "named",
    [
        "danbooru_{id}_{md5}.png",  # gallery-dl
        "danbooru_{id}_{md5}.jfif",
        "{md5}.PNG",  # Grabber
        "__sendai_kantai_collection_drawn_by_rinto__{md5}.png",  # Danbooru itself
        "yande.re {id} solo skirt.png",  # Moebooru
        "{id}.png",
    ],
)
def test_what_others_download_is_collected_and_built(tmp_path, named):
    """A folder for each search; pictures with their metadata beside them."""
    manual = tmp_path / "downloads" / "manual" / "retribooru"
    for name in (11, 12, 13):
        post = danbooru_dump.post(name)
        post |= {"category": "danbooru", "tags": post["tag_string_general"].split()}
        folder = manual / "images" / "danbooru" / f"search {name % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / named.format(**post)
        retribooru_folder.draw_image(name).save(path)
        path.with_name(f"{path.name}.json").write_text(json.dumps(post, indent=4))
    pattern, out = str(manual / "images" / "**" / "*.json"), manual / "annotations"
    images = str(manual / "images")
    collect.main(["--metadata", pattern, "--images", images, "--out", str(out), "--workers", "1"])
    builder = tfds.builder("retribooru/384", data_dir=tmp_path)
    builder.download_and_prepare()
    stored = [r for split in builder.info.splits for r in builder.as_data_source(split)]
    assert sorted(record["id"].decode() for record in stored) == ["11", "12", "13"]


def test_a_name_with_another_number_is_no_image_of_an_id(tmp_path):
    for name in ("danbooru_112_ab.png", "danbooru_11_ab.json", "11_ab.png", "e621_12_cd.webp"):
        (tmp_path / name).write_bytes(b"")
    found = [layout.find_image(tmp_path, name) for name in ("11", "112", "12")]
    assert found == [None, tmp_path / "danbooru_112_ab.png", tmp_path / "e621_12_cd.webp"]


@pytest.mark.parametrize("name", ["screenshot_6.png", "pages_6.png", "dsc_6.jpg"])
def test_a_number_behind_a_common_word_is_no_id(tmp_path, name):
    (tmp_path / name).touch()
    assert layout.find_image(tmp_path, "6") is None


@pytest.mark.parametrize("place", ["00007.png", "0007/000007.jpg", "original/07.PNG"])
def test_zeros_may_stand_before_an_id(tmp_path, place):
    record = Record("7", "ann")
    for path in (tmp_path / "images" / place, tmp_path / "masks" / "0007.png"):
        path.parent.mkdir(parents=True)
        Image.new("L", (20, 20)).save(path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text('{"id": 7, "character": "ann"}')
    found = tmp_path / "images" / place, tmp_path / "masks" / "0007.png"
    assert layout.locate(tmp_path, record) == found
    assert layout.locate(tmp_path, Record("70", "ann")) == (None, None)
    assert [type(item) for item in layout.read(tmp_path)] == [Record]  # no mask without a record
    Image.new("L", (20, 20)).save(tmp_path / "images" / "7.png")
    assert layout.locate(tmp_path, record)[0] in (tmp_path / "images" / "7.png", found[0])


@pytest.mark.parametrize("folder", ["2023", "7100", "2023/04", "original/2023", "0007"])
def test_folders_of_four_digits_are_looked_through(tmp_path, folder):
    """By year, or by thousands of the id; 0007 is that of Danbooru20xx."""
    (tmp_path / folder).mkdir(parents=True)
    path = tmp_path / folder / "7100007.png"
    path.touch()
    assert layout.find_image(tmp_path, "7100007") == path


def test_names_of_sites_hold_the_id(tmp_path):
    names = (
        "yande.re 11 sample dress 12.jpg",
        "Konachan.com - 13 smile.JPG",
        "lolibooru 14 a b.png",
    )
    names = (*names, "yande.re%2015%20dress.jpg", "my girl 16.png", "yande.re 17.txt")
    for name in names:
        (tmp_path / "deep" / "er").mkdir(parents=True, exist_ok=True)
        (tmp_path / "deep" / "er" / name).write_bytes(b"")
    found = [layout.find_image(tmp_path, str(number)) for number in range(11, 18)]
    expected = [names[0], None, names[1], names[2], names[3], None, None]
    assert found == [name and tmp_path / "deep" / "er" / name for name in expected]


def test_what_is_reduced_gives_way_and_of_several_none_is_guessed(tmp_path):
    names = ["set/512px/0011/11.jpg", "set/original/0011/11.png", "a/12.jpg", "b/12.jpg"]
    names += ["thumbs/13.jpg", "a/yande.re 14 sample x.jpg", "b/yande.re 14 x.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [layout.find_image(tmp_path, number) for number in ("11", "12", "13", "14")]
    assert found == [tmp_path / names[1], None, tmp_path / names[4], tmp_path / names[6]]


def test_a_name_that_holds_another_md5_is_no_image_of_a_record(tmp_path):
    first, second = "0123456789abcdef" * 2, "0123456789abcdee" * 2
    for name in (f"{first}.jpg", f"a{second}.jpg", f"{second}.json", f"{second}_small.jpg"):
        (tmp_path / name).write_bytes(b"")
    found = [layout.find_image(tmp_path, "7", "jpg", md5) for md5 in (first, second, "")]
    assert found == [tmp_path / f"{first}.jpg", None, None]


def test_of_two_sites_that_share_a_number_the_md5_tells_the_picture(tmp_path):
    first, second, third = (f"{k:032x}" for k in (1, 2, 3))
    names = [f"danbooru/danbooru_5000_{first}.jpg", f"e621/e621_5000_{second}.png"]
    names += [f"a/sample-{third}.jpg", "a/yande.re 7 smile.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    asked = (("5000", first), ("5000", second), ("5000", ""), ("7", third))
    found = [layout.find_image(tmp_path, number, md5=md5) for number, md5 in asked]
    # The original of 7 is preferred to the sample that its MD5 names.
    assert found == [tmp_path / names[k] for k in (0, 1, 0, 3)]


def test_another_site_s_picture_with_that_number_is_not_taken(tmp_path):
    own, other = (f"{k:032x}" for k in (1, 2))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"danbooru_5000_{other}.jpg").touch()
    assert layout.find_image(tmp_path, "5000", md5=own) is None
    assert layout.find_image(tmp_path, "5000", md5=other) is not None
    (tmp_path / "sample").mkdir()
    sample = tmp_path / "sample" / f"{own}.png"  # reduced, but the post's
    sample.touch()
    assert layout.find_image(tmp_path, "5000", md5=own) == sample


def test_masks_of_onetrainer_are_masks_and_no_pictures(tmp_path):
    root = tmp_path / "people"
    for number, who in enumerate(("ann", "bob")):
        (root / who).mkdir(parents=True)
        for k in range(2):
            image = retribooru_folder.draw_image(10 * number + k)
            image.save(root / who / f"{k}.jpg")
            (root / who / f"{k}.txt").write_text("smile, blue hair")
    mask = Image.new("L", (48, 64))
    mask.paste(255, (10, 5, 38, 64))
    mask.save(root / "ann" / "0-masklabel.png")
    retribooru_folder.draw_image(5).save(root / "ann" / "1-condlabel.png")
    retribooru_folder.draw_image(6).save(root / "bob" / "alone-masklabel.png")
    builder = tfds.builder("folder/384", path=str(root), data_dir=tmp_path / "data")
    builder.download_and_prepare()
    stored = {r["id"].decode(): r for s in builder.info.splits for r in builder.as_data_source(s)}
    names = {f"{who}/{k}.jpg" for who in ("ann", "bob") for k in (0, 1)}
    assert stored.keys() == names | {"bob/alone-masklabel.png"}  # of no picture: one itself
    assert {name for name, record in stored.items() if record["has_mask"]} == {"ann/0.jpg"}
    np.testing.assert_array_equal(stored["ann/0.jpg"]["mask"][:, :, 0], np.asarray(mask))
    faults = (builder.data_path / "rejected.jsonl").read_text().splitlines()
    named = {(f["file"], f["reason"]) for f in map(json.loads, faults)}
    assert (
        "ann/1-condlabel.png",
        "the file is OneTrainer's picture for a control network",
    ) in named


def test_masks_of_no_record_are_named(tmp_path):
    """Other tools call them by the picture's name and a word behind it."""
    made = retribooru_folder.records(4)
    root = retribooru_folder.write(tmp_path, made, masks=False)
    (root / "masks").mkdir(exist_ok=True)
    ids = [record["id"] for record in made]
    for name in (f"{ids[0]}_mask.png", f"{ids[1]}.png", f"{ids[2]}.JPG", ".hidden"):
        (root / "masks" / name).write_bytes(b"")
    Image.new("L", (48, 64)).save(root / "masks" / ids[3], "PNG")
    (root / "masks" / f"{ids[4]}.npy").write_bytes(b"\x93NUMPY")  # as SAM's notebooks save them
    items = list(layout.read(root))
    assert [item.id for item in items if isinstance(item, Record)] == ids
    named = [(f.file, f.part, f.reason) for f in items if isinstance(f, Fault)]
    assert named == [
        (f"masks/{ids[0]}_mask.png", "place", layout.NO_RECORD),
        (f"masks/{ids[4]}.npy", "place", layout.NO_PICTURE),
    ]


@pytest.mark.parametrize("folder", ["masks", "ann/Mask"])
def test_masks_in_folders_called_like_those_of_the_pictures(tmp_path, folder):
    below = pathlib.Path("ann/suit").relative_to(pathlib.Path(folder).parent)
    held = tmp_path / folder
    for path in (tmp_path / "ann/suit/0.jpg", held / below / "0.png", held / below / "9.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        retribooru_folder.draw_image(1).save(path)
    record, fault = folder_layout.read(tmp_path)
    assert (record.id, record.character) == ("ann/suit/0.jpg", "ann")
    assert folder_layout.locate(tmp_path, record)[1] == held / below / "0.png"
    assert (fault.file, fault.part) == (f"{folder}/{below}/9.png", "place")


MASK_NAMES = ["0-masklabel.png", "0-MASKLABEL.PNG", "0_mask.png", "0-mask.jpg", "0.mask.png"]
MASK_NAMES += ["masks/0.png", "mask/0_mask.webp"]


@pytest.mark.parametrize("depth", ["ann", "ann/suit"])
@pytest.mark.parametrize("name", MASK_NAMES)
def test_masks_are_named_in_several_ways_and_are_no_pictures(tmp_path, name, depth):
    folder = tmp_path / depth
    (folder / name).parent.mkdir(parents=True)
    for path in (folder / "0.jpg", folder / "1.jpg", folder / name):
        retribooru_folder.draw_image(1).save(path)
    records = list(folder_layout.read(tmp_path))
    assert [r.id for r in records] == [f"{depth}/0.jpg", f"{depth}/1.jpg"]
    masks = [folder_layout.locate(tmp_path, r)[1] for r in records]
    assert masks == [folder / name, None]


def test_files_among_masks_that_are_of_no_picture_are_named(tmp_path):
    for name in ("0.jpg", "masks/0.png", "masks/7.png", "masks/deep/0.png", "masks/0.txt"):
        (tmp_path / "ann" / name).parent.mkdir(parents=True, exist_ok=True)
        retribooru_folder.draw_image(1).save(tmp_path / "ann" / name, "PNG")
    record, *faults = folder_layout.read(tmp_path)
    assert record.id == "ann/0.jpg"
    assert {f.file for f in faults} == {f"ann/masks/{n}" for n in ("7.png", "deep/0.png", "0.txt")}


def test_a_character_or_an_outfit_may_be_called_masks(tmp_path):
    for name in ("masks/suit/0.jpg", "ann/masks/1.jpg", "ann/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        retribooru_folder.draw_image(1).save(tmp_path / name)
    found = list(folder_layout.read(tmp_path))
    records = [item.id for item in found if isinstance(item, Record)]
    assert records == ["ann/0.jpg", "ann/masks/1.jpg", "masks/suit/0.jpg"]
    named = [item.file for item in found if isinstance(item, Fault)]
    assert named == ["masks", "ann/masks"]
