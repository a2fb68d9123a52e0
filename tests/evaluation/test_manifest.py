"""Manifests of other systems' images: what is read, what is refused, and with which words."""

import json

import numpy as np
import pytest
from PIL import Image

from rbjax.evaluation import manifest
from rbjax.evaluation.manifest import Entry, Reference
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE

REFERENCE = {"image": "references/1.png", "concept": "face", "box": [1, 2, 3, 4]}
ITEM = {
    "id": "a",
    "image": "images/a.png",
    "references": [REFERENCE],
    "prompt": "solo, smile",
    "seed": 3,
}
ENTRIES = [
    Entry("a", "a.png", (Reference("r.png", FACE, (1, 2, 3, 4)),), ("solo", "smile"), 3),
    Entry(
        "b",
        "b.png",
        (Reference("r.png", CLOTHES, tags=("red skirt", "hat")), Reference("s.png", CHARACTER)),
        (),
        2**32 - 1,
        "miku",
        "t.png",
    ),
]


def folder_of(tmp_path, *items):
    lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
    (tmp_path / manifest.NAME).write_text("\n".join(lines))
    return tmp_path


def test_what_is_written_is_read(tmp_path):
    manifest.write(tmp_path, ENTRIES)
    assert manifest.read(tmp_path) == ENTRIES


def test_the_documented_example_is_read(tmp_path):
    text = manifest.__doc__.split("\n\n")[2]
    found = manifest.read(folder_of(tmp_path, " ".join(text.split())))
    assert found[0].prompt == ("solo", "smile", "red background")
    assert found[0].references[1] == Reference("references/21.png", CLOTHES)


def test_every_documented_key_is_known_and_every_known_one_documented():
    rows = {line.split("`")[1] for line in manifest.__doc__.splitlines() if line.startswith("| `")}
    assert rows == {*manifest.REQUIRED, *manifest.OPTIONAL, "tags"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"id": ""}, "id is empty"),
        ({"id": 3}, r"\(id 3\): id is not a text but 3"),
        ({"prompt": None}, "prompt is not a text but None"),
        ({"seed": True}, "seed is not a whole number but True"),
        ({"seed": -1}, "seed -1 is not between"),
        ({"seed": 1.5}, "seed is not a whole number"),
        ({"references": []}, "has no references"),
        ({"references": [3]}, "reference 1 is not an object"),
        ({"references": [REFERENCE, {}]}, "reference 2 has no image, concept"),
        ({"references": [REFERENCE | {"concept": "hat"}]}, "concept 'hat' is none of face"),
        ({"references": [REFERENCE | {"box": [1, 2, 3]}]}, r"box \[1, 2, 3\] is not left, top"),
        ({"references": [REFERENCE | {"box": [1, 2, 0, 4]}]}, "is not left, top"),
        ({"references": [REFERENCE | {"box": [1, 2, 3.5, 4]}]}, "is not left, top"),
        ({"references": [REFERENCE | {"mask": "x"}]}, "unknown mask; keys are"),
        ({"image": "../../etc/passwd"}, "is not a file inside"),
        ({"image": "/etc/passwd"}, "is not a file inside"),
        ({"image": "images/\0.png"}, "is not a file inside"),
        ({"prompt": "solo, \ud800"}, "is not JSON: .*surrogates not allowed"),
        ({"imagee": "x"}, "unknown imagee; keys are"),
    ],
)
def test_a_damaged_entry_is_named(tmp_path, change, message):
    good = ITEM | {"id": "first"}
    with pytest.raises(ValueError, match=f"line 2.*{message}"):
        manifest.read(folder_of(tmp_path, good, ITEM | change))


def test_lines_that_are_no_entry_are_named(tmp_path):
    for text, message in (
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 is not an object"),
        ("[" * 100_000, "line 1 is not JSON"),
        ('{"id": "a", "id": "b"}', "line 1 is not JSON: the key 'id' is there twice"),
        ("", "has no entry"),
        ('{"id": "a"}', r"line 1 \(id 'a'\) has no image, references, prompt, seed"),
    ):
        with pytest.raises(ValueError, match=message):
            manifest.read(folder_of(tmp_path, text))
    with pytest.raises(ValueError, match="line 3: the id 'a' was there before"):
        manifest.read(folder_of(tmp_path, ITEM, "", ITEM))
    (tmp_path / manifest.NAME).write_bytes(b'{"id": "\xff"}')
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        manifest.read(tmp_path)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="manifest.jsonl is missing.*--write_manifest"):
        manifest.read(tmp_path)


def test_images_of_any_size_and_what_is_wrong_with_the_others(tmp_path):
    Image.new("RGB", (30, 30), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("L", (20, 10), 0).save(tmp_path / "b.jpg")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "d.png").mkdir()
    names = ["a.png", "b.jpg", "c.png", "d.png", "e.png"]
    entries = [Entry(n, n, (Reference("r", FACE),), (), 0) for n in names]
    images, faults = manifest.read_images(tmp_path, [*entries, None], 8)
    assert images.shape == (6, 8, 8, 3) and images.dtype == np.float32
    np.testing.assert_array_equal(images[0], np.broadcast_to([1.0, -1, -1], (8, 8, 3)))
    assert (images[1][:2] == 1).all() and (images[1][3:5] == -1).all()  # on a white square
    assert np.isnan(images[2:]).all()
    missing = dict.fromkeys((3, 4, 5), manifest.MISSING)
    assert faults == {2: manifest.UNREADABLE, **missing}


def test_a_folder_without_any_image_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="none of the 2 images"):
        manifest.read_images(tmp_path, ENTRIES, 8)


def test_windows_mark_before_the_first_line_is_no_content(tmp_path):
    folder_of(tmp_path, ITEM)
    path = tmp_path / manifest.NAME
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [entry.id for entry in manifest.read(tmp_path)] == [ITEM["id"]]
