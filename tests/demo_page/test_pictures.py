"""Pictures that the page sends: bytes, never paths."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from rbjax.demo_page import pictures


def picture(height: int = 9, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def item(**changes) -> dict:
    return {"concept": "face", "picture": pictures.data_url(picture()), "box": None} | changes


def url_of(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64," + base64.b64encode(data).decode()


def test_pictures_arrive_as_they_are():
    first, second = pictures.read_references([item(), item(concept="clothes", box=[1, 2, 3, 4])])
    assert (first.image == picture()).all() and first.box is None
    assert (second.concept, second.box) == ("clothes", (1, 2, 3, 4))


def test_no_reference_is_fine():
    assert pictures.read_references(None) == pictures.read_references([]) == []


@pytest.mark.parametrize(
    "address",
    [
        *("/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1/a.png"),
        *("data:image/png,abc", "", {"path": "/etc/passwd"}, {"url": "http://127.0.0.1"}, 3, ["a"]),
    ],
)
def test_paths_and_addresses_are_refused_unopened(address, monkeypatch):
    opened = []
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a))
    with pytest.raises(ValueError, match="Reference 1 (is no picture that was|has no picture)"):
        pictures.read_references([item(picture=address)])
    assert not opened


@pytest.mark.parametrize("name", ["picture", "link.png"])
def test_files_of_the_server_are_refused_even_if_they_are_pictures(name, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "picture", "PNG")
    (tmp_path / "link.png").symlink_to(tmp_path / "picture")
    with pytest.raises(ValueError, match="is no picture that was added on this page"):
        pictures.read_references([item(picture=str(tmp_path / name))])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"picture": url_of(b"hello", "text/plain")}, "no picture of a known kind"),
        ({"picture": url_of(b"")}, "file is empty"),
        ({"picture": "data:image/png;base64,%%%"}, "did not arrive whole"),
        ({"concept": "hat"}, "has no type: choose face, clothes, character"),
        ({"concept": None}, "has no type"),
        ({"box": [0, 0, 100, 100]}, "is not inside its image of 7x9"),
        ({"box": ["a", 0, 1, 1]}, "Draw its box again"),
        ({"box": [0, 0, 1]}, "Draw its box again"),
        ({"box": [0, 0, float("nan"), 1]}, "Draw its box again"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_number(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        pictures.read_references([item(), item(**changes)])
    assert str(caught.value).startswith("Reference 2")


@pytest.mark.parametrize("items", [[None], ["a"], [3], [[]]])
def test_what_is_no_reference_is_told(items):
    with pytest.raises(ValueError, match="Reference 1 has no type"):
        pictures.read_references(items)


def mask_url(left: int, top: int, right: int, bottom: int) -> str:
    mask = np.zeros((9, 7, 3), np.uint8)
    mask[top:bottom, left:right] = 255
    return pictures.data_url(mask)


def test_a_mask_gives_the_box_of_its_figure():
    assert pictures.mask_box(item(), mask_url(2, 3, 6, 9), 1) == (2, 3, 4, 6)


@pytest.mark.parametrize(
    "mask, message",
    [
        (mask_url(0, 0, 0, 0), "The mask of reference 2 cannot be used as a mask"),
        (pictures.data_url(picture(30, 20)), "cannot be used as a mask"),
        ("/etc/passwd", "The mask of reference 2 is no picture that was added"),
    ],
)
def test_masks_that_cannot_be_used_are_told(mask, message):
    with pytest.raises(ValueError, match=message):
        pictures.mask_box(item(), mask, 2)


def test_what_is_no_list_is_told():
    with pytest.raises(ValueError, match="reload the page"):
        pictures.read_references("text")


def test_seven_references_are_too_many():
    with pytest.raises(ValueError, match="There are 7 references; at most 6"):
        pictures.read_references([item()] * 7)


def test_forty_megapixels_are_too_many():
    buffer = io.BytesIO()
    Image.new("1", (8000, 5000)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="Reference 1 .* 40 megapixels, at most 32"):
        pictures.read_references([item(picture=url_of(buffer.getvalue()))])


def test_large_files_are_refused(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 2**20)
    with pytest.raises(ValueError, match="Reference 1 has more than 1 MB"):
        pictures.read_references([item(picture=url_of(bytes(2**20 + 10)))])
