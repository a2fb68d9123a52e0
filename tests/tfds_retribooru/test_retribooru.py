"""The builder `retribooru`: what it stores, what it rejects, and how it stops."""

import json
import os
import pathlib
import re
import shutil
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.helpers import retribooru_folder
from tfds_retribooru import boxes, check
from tfds_retribooru import images as images_lib
from tfds_retribooru.building import examples, splits
from tfds_retribooru.building.records import Record
from tfds_retribooru.building.rejections import TooManyRejected
from tfds_retribooru.clusters import Clusters
from tfds_retribooru.retribooru import layout, retribooru_dataset_builder

DUMMY = pathlib.Path(retribooru_dataset_builder.__file__).parent / "dummy_data"


class TestRetribooru(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own test case."""

    DATASET_CLASS = retribooru_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["384", "original"]
    SPLITS = {"train": 10, "validation": 2, "test": 4}


def build(data_dir: pathlib.Path, config="384", **options):
    """The builder of what lies in data_dir/downloads/manual/retribooru, prepared."""
    builder = tfds.builder(f"retribooru/{config}", data_dir=data_dir, **options)
    builder.download_and_prepare()
    return builder


def manifest(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def manual(data_dir: pathlib.Path) -> pathlib.Path:
    return data_dir / "downloads" / "manual" / "retribooru"


@pytest.fixture(scope="module")
def made() -> list[dict]:
    """Records of 12 characters, in all three splits."""
    return retribooru_folder.records(12)


@pytest.fixture(scope="module")
def good(tmp_path_factory, made):
    """A data set without faults."""
    data_dir = tmp_path_factory.mktemp("good")
    retribooru_folder.write(manual(data_dir), made)
    return build(data_dir)


@pytest.fixture(scope="module")
def stored(good) -> dict[str, dict]:
    return {r["id"].decode(): r for split in good.info.splits for r in good.as_data_source(split)}


# --- what is stored


def test_every_record_is_stored_as_it_is(made, stored):
    assert stored.keys() == {record["id"] for record in made}
    for record in made:
        read = stored[record["id"]]
        assert read["character"].decode() == record["character"]
        assert read["artists"].decode() == record["artists"]
        assert read["prompts"].decode() == record["prompts"]
        assert [t.decode() for t in read["cloths"]] == record["cloths"]
        assert [t.decode() for t in read["similar"]] == record["similar"]
        assert read["has_bbox"] and read["has_mask"]
        np.testing.assert_allclose(read["bbox"], record["bbox"], rtol=1e-6)
        drawn = np.asarray(retribooru_folder.draw_image(int(record["id"])), int)
        assert np.abs(read["image"] - drawn).mean() < 2
        assert (read["mask"][5:, 10:38] == 255).all() and read["mask"].shape == (64, 48, 1)


def test_the_stored_splits_are_those_of_the_rule(good, made):
    columns = zip(*((r["id"], r["character"], r["similar"]) for r in made), strict=True)
    expected = splits.assign(*columns)
    for split in good.info.splits:
        ids = {record["id"].decode() for record in good.as_data_source(split)}
        number = splits.SPLITS.index(split)
        assert ids == {r["id"] for r, of in zip(made, expected, strict=True) if of == number}


def test_clusters_and_vocabulary_lie_beside_the_records(good, made):
    clusters = Clusters.load(good.data_path / "clusters-train.npz")
    assert len(clusters) == good.info.splits["train"].num_examples
    sizes = np.diff(clusters.outfit_start)
    assert (sizes == retribooru_folder.IMAGES).all()
    words = json.loads((good.data_path / "vocabulary.json").read_text())
    assert words["questions"] == {}
    kinds = {tag: entry["kind"] for tag, entry in words["tags"].items()}
    assert kinds == {
        **{"1girl": "identity", "smile": "free", "closed_eyes": "free"},
        **{"blue_hair": "identity", "red_skirt": "outfit", "hat_0": "outfit", "hat_1": "outfit"},
    }


def test_lost_files_beside_the_records_are_made_again(good, tmp_path):
    folder = tmp_path / "retribooru" / "384" / "1.2.0"
    shutil.copytree(good.data_path, folder)
    for name in ("vocabulary.json", "clusters-train.npz"):
        (folder / name).unlink()
    build(tmp_path)
    assert (folder / "vocabulary.json").read_bytes() == (
        good.data_path / "vocabulary.json"
    ).read_bytes()
    assert len(Clusters.load(folder / "clusters-train.npz")) > 0


def test_a_good_data_set_has_an_empty_manifest(good):
    assert (good.data_path / "rejected.jsonl").read_text() == ""


def test_nothing_leaks(good, capsys):
    assert check.main([str(good.data_path)]) == 0
    assert "Nothing crosses a split." in capsys.readouterr().out


def test_building_twice_gives_the_same_bytes(good, tmp_path):
    shutil.copytree(manual(good.data_path.parents[2]), manual(tmp_path))
    again = build(tmp_path)
    for path in good.data_path.glob("*.array_record*"):
        assert (again.data_path / path.name).read_bytes() == path.read_bytes()


def test_data_source_and_load_find_the_data_set(good):
    where = {"split": "test", "data_dir": good.data_path.parents[2]}
    source = tfds.data_source("retribooru/384", **where)
    records = list(tfds.load("retribooru", **where, download=False).as_numpy_iterator())
    assert len(records) == len(source) == retribooru_folder.OUTFITS * retribooru_folder.IMAGES
    assert records[1].keys() == source[1].keys()
    assert (records[1]["mask"] == source[1]["mask"]).all()


# --- layouts and sizes


@pytest.mark.parametrize("layout", ["original/{bucket}", "512px/{bucket}", "{bucket}", ""])
@pytest.mark.parametrize("ending", ["png", "webp"])
def test_layouts_of_images(tmp_path, layout, ending):
    record = retribooru_dataset_builder.annotations.records.Record("12345", "ann")
    folder = tmp_path / "images" / layout.format(bucket="0345")
    folder.mkdir(parents=True)
    (folder / f"12345.{ending}").touch()
    found, mask = retribooru_dataset_builder.layout.locate(tmp_path, record)
    assert found == folder / f"12345.{ending}" and mask is None


def test_an_original_is_preferred_to_its_512px_version(tmp_path):
    record = retribooru_dataset_builder.annotations.records.Record("5", "ann", extension="png")
    for folder in ("original", "512px"):
        for ending in ("png", "jpg"):
            path = tmp_path / "images" / folder / "0005" / f"5.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found, _ = retribooru_dataset_builder.layout.locate(tmp_path, record)
    assert found.parts[-3:] == ("original", "0005", "5.png")


@pytest.mark.parametrize("config, shape", [("384", (512, 384, 3)), ("original", (800, 600, 3))])
def test_configurations_differ_in_size(tmp_path, config, shape):
    one = {"id": 7, "character": "ann", "width": 600, "height": 800}
    root = retribooru_folder.write(manual(tmp_path), [])
    (root / "annotations" / "all.json").write_text(json.dumps([one]))
    (root / "images" / "7.jpg").write_bytes(
        retribooru_folder.encoded(retribooru_folder.draw_image(7, (600, 800)), "JPEG")
    )
    builder = build(tmp_path, config)
    (split,) = builder.info.splits
    (record,) = builder.as_data_source(split)
    assert record["image"].shape == shape
    assert not record["has_bbox"] and not record["has_mask"]
    assert (record["bbox"] == 0).all() and record["mask"].shape == (1, 1, 1)


@pytest.mark.parametrize("config", ["384", "original"])
def test_every_kind_of_image_file_is_stored(tmp_path, config):
    drawn = [retribooru_folder.draw_image(n) for n in range(8)]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    files = {
        "0.jpg": retribooru_folder.encoded(drawn[0].convert("CMYK"), "JPEG"),
        "1.gif": retribooru_folder.encoded(drawn[1].convert("P"), "GIF"),
        "2.jpg": retribooru_folder.encoded(drawn[2].convert("L"), "JPEG"),
        "3.png": retribooru_folder.encoded(
            Image.fromarray(np.arange(3072, dtype=np.uint16).reshape(64, 48))
        ),
        "4.jpg": retribooru_folder.encoded(
            drawn[4].rotate(90, expand=True), "JPEG", exif=exif.tobytes()
        ),
        "5.png": retribooru_folder.encoded(drawn[5].convert("RGBA")),
        "6.gif": retribooru_folder.encoded(
            drawn[6], "GIF", save_all=True, append_images=[drawn[0]]
        ),
        "7.webp": retribooru_folder.encoded(drawn[7], "WEBP", quality=95),
    }
    root = retribooru_folder.write(manual(tmp_path), [])
    lines = [json.dumps({"id": n, "character": "ann"}) for n in range(8)]
    (root / "annotations" / "all.json").write_text("\n".join(lines))
    for name, data in files.items():
        (root / "images" / name).write_bytes(data)
    builder = build(tmp_path, config, max_rejected=0.0)
    (split,) = builder.info.splits
    read = {int(r["id"]): r["image"].astype(int) for r in builder.as_data_source(split)}
    assert read.keys() == set(range(8))
    drawn[1], drawn[2] = (drawn[n].convert(m).convert("RGB") for n, m in ((1, "P"), (2, "L")))
    for n in {0, 1, 2, 4, 5, 6, 7}:
        assert np.abs(read[n] - np.asarray(drawn[n])).mean() < 8
    np.testing.assert_allclose(read[3][..., 0].ravel(), np.arange(3072) / 257, atol=2)


# --- faults


def spoil(root: pathlib.Path, made: list[dict]) -> dict[str, tuple[str, str]]:
    """Adds one of every fault to a good folder; returns (reason, part) of each by id."""
    expected = {}
    images, masks = root / "images", root / "masks"
    lines = (root / "annotations" / "all.json").read_text().splitlines()
    bad = iter(range(9000, 9100))

    def record(reason, part="", **changes) -> str:
        name = str(next(bad))
        line = {"id": name, "character": "girl_0_(test)", "prompts": "1girl"} | changes
        (images / f"{name}.png").write_bytes(
            retribooru_folder.encoded(retribooru_folder.draw_image(int(name)))
        )
        lines.append(json.dumps(line))
        expected[name] = (reason, part)
        return name

    (images / f"{record('the picture s file is missing')}.png").unlink()
    (images / f"{record('the picture s file is empty')}.png").write_bytes(b"")
    (images / f"{record('the file is no picture of a known kind')}.png").write_text("<html>")
    whole = retribooru_folder.encoded(retribooru_folder.draw_image(1))
    (images / f"{record('the picture does not decode')}.png").write_bytes(whole[:-200])
    pixel = retribooru_folder.encoded(Image.new("RGB", (1, 1)))
    (images / f"{record('the picture has too few pixels')}.png").write_bytes(pixel)
    bomb = retribooru_folder.encoded(Image.new("1", (20000, 20000)))
    (images / f"{record('the picture has too many pixels')}.png").write_bytes(bomb)
    twin = retribooru_folder.encoded(
        retribooru_folder.draw_image(int(made[0]["id"])), "PNG", compress_level=0
    )
    (images / f"{record('the picture is that of another record')}.png").write_bytes(twin)
    record("the character is not a text", character=None)
    record("the box is not inside the picture", "bbox", bbox=[0.9, 0.5, 0.4, 0.4])
    record("the box is not inside the picture", "bbox", bbox=[0.5, 0.5, float("nan"), 0.4])
    record("a similar id is of no record", "similar", similar=["123456"])
    record("a similar id is of another character", "similar", similar=[made[-1]["id"]])
    own = record("a similar id is the record's own", "similar")
    lines[-1] = json.dumps(json.loads(lines[-1]) | {"similar": [own]})
    (masks / f"{record('the mask is of another size than the picture', 'mask')}.png").write_bytes(
        retribooru_folder.encoded(Image.new("L", (30, 30)))
    )
    record("a tag of prompts is not UTF-8", "prompts", prompts="1girl, hat")
    lines[-1] = lines[-1].replace("hat", "h\udce9t")
    lines[0], lines[1] = (line[:-1] + ', "score": 1}' for line in lines[:2])  # said once
    lines.append(json.dumps(made[0]))
    expected[made[0]["id"]] = ("the id was there before", "")
    lines += ['{"id": 5, "char', '{"id": "../../secret", "character": "x"}', '{"id": 9099, "ch']
    text = "\n".join(lines).encode(errors="surrogateescape")
    (root / "annotations" / "all.json").write_bytes(text)
    return {name: (reason.replace(" s ", "'s "), part) for name, (reason, part) in expected.items()}


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory, made):
    """(data_dir, what was spoiled)."""
    data_dir = tmp_path_factory.mktemp("spoiled")
    root = retribooru_folder.write(manual(data_dir), made, masks=False)
    return data_dir, spoil(root, made)


@pytest.fixture(scope="module")
def rest(spoiled):
    """What is built of the spoiled folder."""
    return build(spoiled[0], max_rejected=0.5)


def test_every_fault_is_in_the_manifest_with_its_place(rest, spoiled):
    faults = manifest(rest.data_path / "rejected.jsonl")
    known = {fault["id"]: (fault["reason"], fault["part"]) for fault in faults if fault["id"]}
    assert known == spoiled[1]
    unnamed = sorted(fault["reason"] for fault in faults if not fault["id"])
    assert unnamed == sorted(
        [
            "the id is no number and no plain file name",
            *["the line is not JSON"] * 2,
            "unknown key (reported once)",
        ]
    )
    lines = (manual(spoiled[0]) / "annotations" / "all.json").read_bytes().splitlines()
    for fault in faults:
        assert fault["file"] == "all.json"
        assert fault["id"].encode() in lines[fault["line"] - 1]


def test_nothing_good_is_lost(rest, spoiled, made):
    ids = {r["id"].decode() for split in rest.info.splits for r in rest.as_data_source(split)}
    parts = {name for name, (_, part) in spoiled[1].items() if part}
    assert ids == {record["id"] for record in made} | parts


def test_a_fault_of_a_part_leaves_the_record(rest, spoiled):
    read = {r["id"].decode(): r for split in rest.info.splits for r in rest.as_data_source(split)}
    for name, (_, part) in spoiled[1].items():
        if part:
            assert not read[name]["has_bbox"] and not read[name]["has_mask"]
            assert list(read[name]["similar"]) == []
            assert read[name]["prompts"] == b"1girl"


def test_too_many_rejected_records_stop_the_build(spoiled, tmp_path):
    shutil.copytree(manual(spoiled[0]), manual(tmp_path))
    with pytest.raises(TooManyRejected) as error:
        build(tmp_path)
    message = str(error.value)
    assert "max_rejected=0.01" in message and "the line is not JSON" in message
    kept = tmp_path / "retribooru" / "384" / "rejected.jsonl"
    assert str(kept) in message and manifest(kept)
    assert [p.name for p in kept.parent.iterdir()] == ["rejected.jsonl"]


def test_a_bad_image_stops_the_build_too(good, tmp_path, made):
    shutil.copytree(manual(good.data_path.parents[2]), manual(tmp_path))
    (manual(tmp_path) / "images" / f"{made[5]['id']}.png").write_bytes(b"")
    with pytest.raises(TooManyRejected, match="1 of 72 records .* nothing is built"):
        build(tmp_path)
    assert not (tmp_path / "retribooru" / "384" / "1.2.0").exists()
    assert build(tmp_path, max_rejected=0.02).info.splits.total_num_examples == 71


@pytest.mark.parametrize(
    "part, value, reason",
    [
        ("bbox", {"x": 1}, "the box is not a list of four numbers"),
        ("bbox", [0.1, 0.5, 0.4, 0.4], "the box is not inside the picture"),
        ("bbox", [40, 50, 60, 40], r"the box in pixels \(centre x.*\) is not inside the picture"),
        ("cloths", {"skirt": 1}, "cloths is of the wrong type"),
        ("similar", ["77777"], "a similar id is of no record"),
        ("similar", 6001, "similar is not a list"),
        ("prompts", 3, "prompts is of the wrong type"),
    ],
)
def test_a_part_that_most_records_lose_stops_the_build(tmp_path, made, part, value, reason):
    spoiled = [record | {part: value} for record in made[:20]] + made[20:30]
    retribooru_folder.write(manual(tmp_path), spoiled, masks=False)
    with pytest.raises(TooManyRejected, match=f"20 of the .* records with {part} lose it") as error:
        build(tmp_path)
    assert re.search(f"20  {part}: {reason}; first of record {made[0]['id']}: ", str(error.value))
    kept = tmp_path / "retribooru" / "384" / "rejected.jsonl"
    assert [path.name for path in kept.parent.iterdir()] == [kept.name] and len(
        manifest(kept)
    ) >= 20
    assert build(tmp_path, max_rejected=1).info.splits.total_num_examples == 30


def test_masks_that_most_records_lose_stop_the_build(tmp_path, made):
    retribooru_folder.write(manual(tmp_path), made[:30])
    for record in made[:20]:
        path = manual(tmp_path) / "masks" / f"{record['id']}.png"
        path.write_bytes(retribooru_folder.encoded(Image.new("L", (48, 64))))
    with pytest.raises(TooManyRejected, match="records with mask lose it"):
        build(tmp_path)


@pytest.mark.parametrize("form", range(3))
def test_boxes_in_pixels_are_read_in_the_format_that_fits(tmp_path, made, form, capsys):
    """The pictures have 48 x 64 pixels, the box is that of every record: [0.5, 0.25, 0.4, 0.3]."""
    x, y, w, h = 24, 16, 19.2, 19.2
    values = [
        [x, y, w, h],
        [x - w / 2, y - h / 2, w, h],
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2],
    ]
    size = {"width": 48, "height": 64}
    pixels = [record | {"bbox": values[form]} | size for record in made]
    retribooru_folder.write(manual(tmp_path), pixels, masks=False)
    builder = build(tmp_path)
    for record in builder.as_data_source("train"):
        np.testing.assert_allclose(record["bbox"], [0.5, 0.25, 0.4, 0.3], rtol=1e-5)
    assert f"72 boxes in pixels were read as {boxes.FORMATS[form]}." in capsys.readouterr().out


def test_the_report_says_what_the_data_lacks(tmp_path, made, capsys):
    bare = [{"id": r["id"], "character": r["character"]} for r in made[:3]] + made[3:6]
    retribooru_folder.write(manual(tmp_path), bare, masks=False)
    build(tmp_path)
    text = capsys.readouterr().out
    assert "3 records have no tags: their prompts are empty." in text and "No record" not in text
    shutil.rmtree(tmp_path / "retribooru")
    retribooru_folder.write(manual(tmp_path), bare[:3], masks=False)
    build(tmp_path)
    text = capsys.readouterr().out
    assert "No record has a face box" in text
    assert "No record names another one in the same outfit (`similar`" in text


def test_newer_annotations_are_told(tmp_path, made, capsys):
    root = retribooru_folder.write(manual(tmp_path), made[:6], masks=False)
    build(tmp_path)
    later = time.time() + 5
    os.utime(root / "annotations" / "all.json", (later, later))
    capsys.readouterr()
    build(tmp_path, max_rejected=0.5)
    text = capsys.readouterr().out
    assert "annotations/all.json changed after retribooru was built" in text
    assert "tfds.builder('\"'\"'retribooru/384:1.2.0'\"'\"', data_dir=" in text
    assert "max_rejected=0.5)" in text


@pytest.mark.parametrize("limit", [-0.1, 1.5])
def test_a_limit_that_is_no_share_is_refused(good, tmp_path, limit):
    shutil.copytree(manual(good.data_path.parents[2]), manual(tmp_path))
    with pytest.raises(ValueError, match="max_rejected"):
        build(tmp_path, max_rejected=limit)


def test_an_interrupted_build_starts_clean(good, tmp_path, monkeypatch):
    shutil.copytree(manual(good.data_path.parents[2]), manual(tmp_path))
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) > 30:
            raise KeyboardInterrupt
        return images_lib.prepare(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(examples.images, "prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path)
    assert not list((tmp_path / "retribooru" / "384").iterdir())
    again = build(tmp_path)
    for path in good.data_path.glob("*.array_record*"):
        assert (again.data_path / path.name).read_bytes() == path.read_bytes()


def test_without_annotations_it_says_where_to_put_them(tmp_path):
    (manual(tmp_path) / "images").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="annotations.*\n.*RetriBooru's pictures are not"):
        build(tmp_path)


def test_of_one_image_in_two_splits_one_is_kept(tmp_path, made):
    root = retribooru_folder.write(manual(tmp_path), made)
    columns = zip(*((r["id"], r["character"], r["similar"]) for r in made), strict=True)
    split = splits.assign(*columns).tolist()
    trained, tested = (made[split.index(n)]["id"] for n in (2, 0))
    image = (root / "images" / f"{tested}.png").read_bytes()
    (root / "images" / f"{trained}.png").write_bytes(image)
    builder = build(tmp_path, max_rejected=0.02)
    (fault,) = manifest(builder.data_path / "rejected.jsonl")
    assert (fault["id"], fault["detail"]) == (trained, tested)
    assert check.main([str(builder.data_path)]) == 0


def test_endings_of_images_and_masks_are_of_any_kind(tmp_path):
    image = retribooru_folder.encoded(retribooru_folder.draw_image(1), "JPEG")
    places = {"1": "images/1.JPG", "2": "images/2.jfif", "3": "images/original/0003/3", "4": ""}
    for name in filter(None, [*places.values(), "masks/1.PNG", "masks/2.webp", "images/4.txt"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"tags" if name.endswith("txt") else image)
    found = {name: layout.locate(tmp_path, Record(name, "ann")) for name in places}
    assert found == {
        "1": (tmp_path / "images/1.JPG", tmp_path / "masks/1.PNG"),
        "2": (tmp_path / "images/2.jfif", tmp_path / "masks/2.webp"),
        "3": (tmp_path / "images/original/0003/3", None),
        "4": (None, None),
    }
    (tmp_path / "images/4.GIF").write_bytes(image)
    os.utime(tmp_path / "images", (0, 0))  # a clock may be coarse
    assert layout.locate(tmp_path, Record("4", "ann"))[0] == tmp_path / "images/4.GIF"


def test_an_id_may_have_the_ending_of_its_picture(tmp_path):
    for folder, name in (("images", "4.jpg"), ("masks", "4.png"), ("images", "jpg.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        retribooru_folder.draw_image(4).save(tmp_path / folder / name)
    found = tmp_path / "images/4.jpg", tmp_path / "masks/4.png"
    assert layout.locate(tmp_path, Record("4.jpg", "ann")) == found
    assert layout.locate(tmp_path, Record("jpg", "ann")) == (tmp_path / "images/jpg.png", None)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.json").write_text('{"id": "4.jpg", "character": "ann"}')
    assert [item.id for item in layout.read(tmp_path)] == ["4.jpg"]
