"""The builder `folder`: people sorted into folders."""

import json
import os
import pathlib
import shlex
import time

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.helpers import retribooru_folder
from tfds_retribooru import check, formats, walking
from tfds_retribooru.building import rejections
from tfds_retribooru.building.examples import Source
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.clusters import Clusters
from tfds_retribooru.folder import folder_dataset_builder, layout

PEOPLE = 20


class TestFolder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own test case."""

    DATASET_CLASS = folder_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["512"]
    SPLITS = {"train": 3, "test": 1}


def put(path, seed: int, tags=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(retribooru_folder.encoded(retribooru_folder.draw_image(seed), "JPEG"))
    if tags is not None:
        path.with_suffix(".txt").write_text(tags)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """PEOPLE characters: two images without and two times two with an outfit."""
    root = tmp_path_factory.mktemp("people")
    for n in range(PEOPLE):
        for image in range(2):
            put(root / f"Person_{n}" / f"{image}.jpg", 100 * n + image, "smile,\nblue hair ,")
            for outfit in ("red dress", "suit"):
                seed = 100 * n + 10 * len(outfit) + image
                put(root / f"Person_{n}" / outfit / f"{image}.JPG", seed)
    return root


@pytest.fixture(scope="module")
def built(people, tmp_path_factory):
    builder = tfds.builder("folder", path=str(people), data_dir=tmp_path_factory.mktemp("data"))
    builder.download_and_prepare()
    return builder


def test_records_have_retribooru_s_features(built):
    retribooru = tfds.builder("retribooru", data_dir=built.data_path.parents[2])
    assert built.info.features.keys() == retribooru.info.features.keys()
    records = [r for split in built.info.splits for r in built.as_data_source(split)]
    by_id = {r["id"].decode(): r for r in records}
    assert len(by_id) == 6 * PEOPLE
    plain = by_id["Person_3/1.jpg"]
    assert plain["character"] == b"Person_3" and plain["prompts"] == b"smile, blue hair"
    assert not plain["has_bbox"] and not plain["has_mask"] and list(plain["similar"]) == []
    dressed = by_id["Person_3/suit/0.JPG"]
    assert list(dressed["similar"]) == [b"Person_3/suit/1.JPG"] and dressed["prompts"] == b""


def test_outfit_folders_are_outfits_and_loose_images_are_their_own(built):
    clusters = Clusters.load(built.data_path / "clusters-train.npz")
    records = built.as_data_source("train")
    for i, record in enumerate(records):
        assert len(clusters.same_outfit(i)) == 1 + len(record["similar"])


def test_nothing_leaks(built):
    assert check.main([str(built.data_path)]) == 0


def test_a_large_outfit_is_one_outfit_with_few_links(tmp_path):
    for n in range(40):
        path = tmp_path / "ann" / "suit" / f"{n:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    records = list(layout.read(tmp_path))
    assert {len(record.similar) for record in records} == {layout.NEIGHBOURS}
    position = {record.id: i for i, record in enumerate(records)}
    reached, edge = {0}, [0]
    while edge:
        edge = [position[s] for i in edge for s in records[i].similar if position[s] not in reached]
        reached.update(edge)
    assert len(reached) == 40


def test_other_files_are_no_images(tmp_path):
    put(tmp_path / "ann" / "a.jpg", 1)
    others = ["a.txt", "readme.jpg", "ann/notes.md", "ann/o/deep/er/b.txt"]
    for name in (*others, "ann/.hidden.jpg", ".git/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    *_, record = found = sorted(layout.read(tmp_path), key=lambda item: hasattr(item, "character"))
    assert record.id == "ann/a.jpg"
    faults = [(fault.file, fault.part, fault.reason) for fault in found[:-1]]
    assert faults == [(name, "place", layout.NOT_READ) for name in others]


def test_links_that_lead_nowhere_are_named(tmp_path):
    put(tmp_path / "ann" / "a.jpg", 1)
    for name in ("a.txt", "a-masklabel.png", "b.jpg"):
        (tmp_path / "ann" / name).symlink_to(tmp_path / "gone" / name)
    first, second, *faults = layout.read(tmp_path)
    assert [first.id, second.id] == ["ann/a.jpg", "ann/b.jpg"]
    assert {(fault.file, fault.reason) for fault in faults} == {
        ("ann/a.txt", layout.NOT_READ),
        ("ann/a-masklabel.png", layout.NOT_READ),
    }
    source = Source(lambda: layout.read(tmp_path), lambda r: layout.locate(tmp_path, r), 384)
    assert source.image_of(second).reason == "a file cannot be read"


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.txt", b"smile, blue hair,\n"),
        ("a.caption", b"smile\r\nblue hair\r\n"),
        ("a.TXT", b"\xef\xbb\xbfsmile,blue hair"),
        ("a.jpg.Caption", "smile, blue hair".encode("utf-16")),
        ("a.jpg.txt", b"smile\nblue hair"),
        ("a.txt", "smile, blue hair".encode("utf-16-le")),
    ],
)
def test_files_of_tags_have_one_of_several_names_and_forms(tmp_path, name, content):
    put(tmp_path / "ann" / "a.jpg", 1)
    (tmp_path / "ann" / name).write_bytes(content)
    (record,) = layout.read(tmp_path)
    assert record.prompts == "smile, blue hair"


def test_names_of_macos_are_those_of_others(tmp_path):
    """macOS takes letters and their accents apart, in archives too."""
    apart, composed = "cafe\u0301", "caf\u00e9"
    put(tmp_path / apart / f"{apart}.jpg", 1)
    (tmp_path / apart / f"{composed}.txt").write_text("smile")
    put(tmp_path / composed / "b.jpg", 2)
    put(tmp_path / f"{composed} " / "suit" / "c.jpg", 3)
    records = list(layout.read(tmp_path))
    assert {record.character for record in records} == {composed}
    assert {record.id: record.prompts for record in records} == {
        f"{apart}/{apart}.jpg": "smile",
        f"{composed}/b.jpg": "",
        f"{composed} /suit/c.jpg": "",
    }


def test_files_of_tags_that_no_picture_uses_are_named(tmp_path):
    put(tmp_path / "ann" / "suit" / "a.jpg", 1, "smile")
    for name in ("a.caption", "b.txt"):
        (tmp_path / "ann" / "suit" / name).write_text("frown")
    record, *faults = layout.read(tmp_path)
    assert record.prompts == "smile"
    assert [fault.file for fault in faults] == ["ann/suit/b.txt", "ann/suit/a.caption"]
    assert {(fault.part, fault.reason) for fault in faults} == {("place", layout.NO_IMAGE)}


def test_what_is_newer_than_the_data_set_is_told_with_the_command_that_builds_it(tmp_path, capsys):
    for n in range(3):
        put(tmp_path / "in" / "ann" / f"{n}.jpg", n)
    where = {"path": str(tmp_path / "in"), "data_dir": tmp_path / "it's out"}
    tfds.builder("folder", **where).download_and_prepare()
    capsys.readouterr()
    tfds.builder("folder", **where).download_and_prepare()
    assert capsys.readouterr().out == ""
    put(tmp_path / "in" / "ann" / "suit" / "3.jpg", 3)
    later = time.time() + 5
    os.utime(tmp_path / "in" / "ann" / "suit", (later, later))
    builder = tfds.builder("folder", **where)
    builder.download_and_prepare()
    text = capsys.readouterr().out
    assert "ann/suit and " in text and "changed after folder was built" in text
    _, _, code = shlex.split(text.splitlines()[-1])
    exec(code)
    assert tfds.builder("folder", **where).info.splits.total_num_examples == 4


def test_tags_that_are_no_text_cost_the_tags(tmp_path):
    put(tmp_path / "ann" / "a.jpg", 1)
    (tmp_path / "ann" / "a.txt").write_bytes(b"b\xe9ret")
    fault, record = layout.read(tmp_path)
    assert isinstance(fault, Fault) and fault.part == "prompts"
    assert record.prompts == ""


@pytest.mark.parametrize(
    "text", ["0 0.5 0.25 0.1 0.2", "1 0.5 0.25 1e-05 0.2 0.9\r\n0 0.1 0.2 0.1 0.1 -1\r\n"]
)
def test_boxes_beside_a_picture_are_no_tags(tmp_path, text):
    """As YOLO's tools write them."""
    put(tmp_path / "ann" / "a.jpg", 1, text)
    fault, record = layout.read(tmp_path)
    assert isinstance(fault, Fault) and (fault.part, fault.reason) == ("prompts", layout.NUMBERS)
    assert fault.detail.startswith(text[:18]) and record.prompts == ""


def test_numbers_may_be_tags(tmp_path):
    put(tmp_path / "ann" / "a.jpg", 1, "6+girls\n1980s\n9")
    (record,) = layout.read(tmp_path)
    assert record.prompts == "6+girls, 1980s, 9"


def test_a_missing_folder_is_named(tmp_path):
    builder = tfds.builder("folder", path=str(tmp_path / "nowhere"), data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder.\n.*Give the folder"):
        builder.download_and_prepare()


def test_a_bad_image_is_in_the_manifest(people, tmp_path):
    for n in range(3):
        put(tmp_path / "in" / "ann" / f"{n}.jpg", n)
    pixel = Image.new("RGB", (1, 1))
    (tmp_path / "in" / "ann" / "3.png").write_bytes(retribooru_folder.encoded(pixel))
    path = str(tmp_path / "in")
    builder = tfds.builder("folder", path=path, data_dir=tmp_path / "out", max_rejected=0.5)
    builder.download_and_prepare()
    text = (builder.data_path / "rejected.jsonl").read_text()
    assert '"ann/3.png"' in text and "too few pixels" in text


def test_an_image_is_one_by_its_content_or_a_usual_ending(tmp_path):
    names = ["a.jfif", "b.jpe", "c.pjpeg", "d", "e.JPG", "f.Png", "[g] {x} é ぼ.jpg", "h" * 240]
    for number, name in enumerate(names):
        put(tmp_path / "ann [x]" / name, number)
    (tmp_path / "ann [x]" / "a.TXT").write_text("smile")
    (tmp_path / "ann [x]" / "list.csv").write_text("BM, no image")
    items = list(layout.read(tmp_path))
    records = {item.id: item for item in items if isinstance(item, Record)}
    assert records.keys() == {f"ann [x]/{name}" for name in names}
    assert records["ann [x]/a.jfif"].prompts == "smile"


@pytest.mark.parametrize(
    "name, start, kind",
    [
        ("a.jxl", b"\xff\x0a\xfa\x7f", "JPEG XL"),
        ("a.jxl", b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        ("a.jpg", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)
def test_pictures_of_formats_that_are_not_read_are_refused_by_name(tmp_path, name, start, kind):
    put(tmp_path / "in" / "ann" / "b.jpg", 1)
    (tmp_path / "in" / "ann" / name).write_bytes(start + bytes(60))
    builder = tfds.builder("folder", path=str(tmp_path / "in"), data_dir=tmp_path / "out")
    with pytest.raises(rejections.TooManyRejected, match="is of a format that is not read"):
        builder.download_and_prepare()
    (manifest,) = (tmp_path / "out").rglob("rejected.jsonl")
    assert f"{kind}: convert it to JPEG, PNG or WebP" in manifest.read_text()


def test_a_path_may_be_relative_or_no_text(people, tmp_path, monkeypatch):
    monkeypatch.chdir(people.parent)
    for path in (people, people.name, pathlib.Path(people.name)):
        builder = tfds.builder("folder", path=path, data_dir=tmp_path)
        assert f"path='{people}'" in shlex.split(builder._rebuild())[2]


def test_an_avif_that_names_heif_too_is_read(tmp_path):
    image = retribooru_folder.draw_image(1)
    image.save(tmp_path / "a.avif")
    start = (tmp_path / "a.avif").read_bytes()[:32]
    assert b"mif1" in start and formats.unread_format(start) == ""
    assert not formats.unread_format(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2")  # a video


def test_images_elsewhere_are_noted_and_reject_nothing(people, tmp_path):
    root = tmp_path / "in"
    for n in range(3):
        put(root / "ann" / "suit" / f"{n}.jpg", n)
    for n, name in enumerate(("cover.jpg", "ann/suit/more/a.jpg", "ann/suit/x/y/b.jfif")):
        put(root / name, 10 + n)
    put(root / "ann" / "suit" / ".cache" / "c.jpg", 20)
    builder = tfds.builder("folder", path=str(root), data_dir=tmp_path / "[out]", max_rejected=0.0)
    builder.download_and_prepare()
    lines = (builder.data_path / "rejected.jsonl").read_text().splitlines()
    faults = [json.loads(line) for line in lines]
    assert [fault["file"] for fault in faults] == [
        "cover.jpg",
        "ann/suit/more/a.jpg",
        "ann/suit/x/y/b.jfif",
    ]
    assert {(fault["part"], fault["reason"]) for fault in faults} == {("place", layout.NOT_TAKEN)}
    assert builder.info.splits.total_num_examples == 3


def test_repeats_before_a_name_make_no_other_character(tmp_path):
    for name in ("10_ann", "5_ann", "3_bob", "7_2"):
        put(tmp_path / name / "0.jpg", len(name))
    items = list(layout.read(tmp_path))
    found = {item.id: item.character for item in items if isinstance(item, Record)}
    assert found == {
        "10_ann/0.jpg": "ann",
        "5_ann/0.jpg": "ann",
        "3_bob/0.jpg": "3_bob",
        "7_2/0.jpg": "7_2",
    }
    told = [(f.file, f.part, f.reason, f.detail) for f in items if isinstance(f, Fault)]
    assert told == [(name, "character", layout.REPEATED, "ann") for name in ("10_ann", "5_ann")]


def test_the_build_says_which_folders_are_of_one_character(tmp_path, capsys):
    for k, name in enumerate(("10_ann", "5_ann/images", "5_ann/10_ann")):
        put(tmp_path / "in" / name / "0.jpg", k)
    where = {"path": str(tmp_path / "in"), "data_dir": tmp_path / "out", "max_rejected": 0.0}
    tfds.builder("folder", **where).download_and_prepare()
    text = capsys.readouterr().out
    assert f"2  character of a record: {layout.REPEATED}, such as 10_ann: ann" in text


@pytest.mark.parametrize(
    "folders",
    [
        ("001_girl", "002_girl"),
        ("01_ann", "02_ann", "10_ann"),
        ("1_ann", "2_ann", "3_bob"),
        ("2_Girl", "7_Girl"),
        ("1_1girl", "5_1girl"),
        ("3_people", "5_people"),
    ],
)
def test_people_who_are_numbered_are_several(tmp_path, folders):
    for k, folder in enumerate(folders):
        put(tmp_path / folder / "0.jpg", k)
    assert [record.character for record in layout.read(tmp_path)] == list(folders)


@pytest.mark.parametrize("folders", [("1_ann", "2_ann"), ("1_ann", "2_ann", "4_bob")])
def test_repeats_may_follow_each_other(tmp_path, folders):
    for k, folder in enumerate(folders):
        put(tmp_path / folder / "0.jpg", k)
    records = (item for item in layout.read(tmp_path) if isinstance(item, Record))
    characters = [record.character for record in records]
    assert characters == ["ann", "ann", *folders[2:]]


@pytest.mark.parametrize("beside", ["img/10_ann", "ann"])
def test_kohya_s_pictures_for_regularisation_are_of_nobody(tmp_path, beside):
    for k, place in enumerate((beside, "reg/1_girl", "reg/1_boy")):
        put(tmp_path / place / "a.png", k)
    found = list(layout.read(tmp_path))
    faults = {(f.file, f.reason, f.part) for f in found if isinstance(f, Fault)}
    assert faults == {
        (f"reg/1_{name}/a.png", layout.REGULARISATION, "place") for name in ("girl", "boy")
    }
    (record,) = (r for r in found if isinstance(r, Record))
    assert record.id == f"{beside}/a.png" and record.character in ("10_ann", "ann")


def test_somebody_may_be_called_reg(tmp_path):
    for place in ("Reg/school", "reg", "ann"):
        put(tmp_path / place / "a.png", 1)
    found = list(layout.read(tmp_path))
    assert {r.character for r in found} == {"Reg", "reg", "ann"}


def test_somebody_called_reg_may_have_outfits_with_numbers(tmp_path):
    places = ("Reg/1_casual", "Reg/2_girl scout", "Riko/1_casual")
    for k, place in enumerate(places):
        put(tmp_path / place / "a.png", k)
    found = {item.id: item.character for item in layout.read(tmp_path)}
    assert found == {f"{place}/a.png": place.split("/")[0] for place in places}


def test_what_may_not_be_read_is_named_and_ends_nothing(tmp_path, monkeypatch):
    put(tmp_path / "ann/0.jpg", 0, "smile")
    put(tmp_path / "lost+found/0.jpg", 1)
    put(tmp_path / "ann/inner/0.jpg", 2)

    def refuse(path, *arguments, **options):
        if path.suffix == ".txt":
            raise PermissionError(13, "Permission denied")
        return original(path, *arguments, **options)

    original = layout.text_files.read_text
    monkeypatch.setattr(layout.text_files, "read_text", refuse)
    closed = (tmp_path / "lost+found", tmp_path / "ann/inner")
    monkeypatch.setattr(walking.os, "access", lambda path, mode: path not in closed)
    found = list(layout.read(tmp_path))
    assert [item.id for item in found if isinstance(item, Record)] == ["ann/0.jpg"]
    faults = {(item.file, item.part, item.reason) for item in found if isinstance(item, Fault)}
    assert faults == {
        ("ann/0.jpg", "prompts", "the tags cannot be read"),
        ("lost+found", "place", layout.CLOSED),
        ("ann/inner", "place", layout.CLOSED),
    }
