"""Face boxes of pictures in folders."""

import json
import unicodedata

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.helpers import retribooru_folder
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.collect import detectors
from tfds_retribooru.folder import __main__ as command
from tfds_retribooru.folder import faces, layout


def put(path, seed: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(retribooru_folder.encoded(retribooru_folder.draw_image(seed)))


@pytest.fixture
def people(tmp_path):
    for n in range(6):
        put(tmp_path / "in" / f"person {n // 3}" / f"{n % 3}.png", n)
    return tmp_path / "in"


def write(root, *lines):
    (root / faces.NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_boxes_of_a_file_reach_the_data_set(people, tmp_path):
    write(
        people,
        {"id": "person 0/0.png", "bbox": [0.5, 0.25, 0.4, 0.3]},
        {"id": "person 0/1.png", "bbox": None},
        {"id": "person 1/0.png", "bbox": [24, 16, 19.2, 19.2]},  # of 48 x 64 pixels
    )
    builder = tfds.builder("folder", path=str(people), data_dir=tmp_path / "out")
    builder.download_and_prepare()
    records = [r for split in builder.info.splits for r in builder.as_data_source(split)]
    boxed = {r["id"].decode(): r["bbox"] for r in records if r["has_bbox"]}
    assert boxed.keys() == {"person 0/0.png", "person 1/0.png"} and len(records) == 6
    for box in boxed.values():
        np.testing.assert_allclose(box, [0.5, 0.25, 0.4, 0.3], rtol=1e-5)


@pytest.mark.parametrize("written", ["./ann/0.jpg", "ann\\\\0.jpg", "ann//0.jpg"])
def test_paths_as_other_programs_write_them(tmp_path, written):
    (tmp_path / "faces.jsonl").write_text(f'{{"id": "{written}", "bbox": [0.5, 0.5, 0.2, 0.2]}}')
    found, bad = faces.read(tmp_path)
    assert list(found) == ["ann/0.jpg"] and not bad


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])  # the second by macOS
def test_names_with_accents_are_compared_however_they_are_written(tmp_path, written, stored):
    name, other = (unicodedata.normalize(form, "Zoé/été.png") for form in (stored, written))
    put(tmp_path / name, 0)
    write(tmp_path, {"id": other, "bbox": [0.5, 0.25, 0.4, 0.3]})
    (record,) = layout.read(tmp_path)
    assert record.id == name and record.bbox == (0.5, 0.25, 0.4, 0.3)
    write(tmp_path, {"id": other, "bbox": [0.9, 0.5, 0.4, 0.4]})
    assert [item.id for item in layout.read(tmp_path)] == [name, name]  # the fault's, too


def test_what_cannot_be_used_of_the_file_is_named(people):
    write(
        people,
        {"id": "person 0/0.png", "bbox": [0.9, 0.5, 0.4, 0.4]},
        {"id": "person 9/0.png", "bbox": [0.5, 0.25, 0.4, 0.3]},
        {"bbox": [0.5, 0.25, 0.4, 0.3]},
        [1],
    )
    items = list(layout.read(people))
    faults = {(f.id, f.part, f.reason, f.line) for f in items if isinstance(f, Fault)}
    bad = "a line of the boxes is no JSON object with an id"
    assert faults == {
        ("person 0/0.png", "bbox", "the box is not inside the picture", 1),
        ("", "place", layout.NO_PICTURE, 0),
        ("", "place", bad, 3),
        ("", "place", bad, 4),
    }
    assert sum(isinstance(item, Record) for item in items) == 6


def test_the_command_writes_the_boxes_of_a_detector(people, monkeypatch, capsys):
    monkeypatch.setattr(detectors, "load", lambda path: "session")

    def box(session, image, min_score):
        assert session == "session" and min_score == 0.3 and image.size == (48, 64)
        return (0.5, 0.25, 0.4, 0.3) if np.asarray(image).mean() > 127 else None

    monkeypatch.setattr(detectors, "face_box", box)
    (people / "person 0" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    command.main([str(people), "--faces", "face.onnx", "--min_score", "0.3"])
    lines = [json.loads(line) for line in (people / faces.NAME).read_text().splitlines()]
    bright = [np.asarray(retribooru_folder.draw_image(n)).mean() > 127 for n in range(6)]
    assert [line["bbox"] is not None for line in lines] == bright and 0 < sum(bright) < 6
    assert (
        f"7 pictures, {sum(bright)} with a face, 1 that cannot be read" in capsys.readouterr().out
    )
    with pytest.raises(SystemExit):
        command.main([str(people), "--faces", "face.onnx"])
    assert "is there already: move it away" in capsys.readouterr().err
