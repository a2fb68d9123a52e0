"""Pictures between the browser and the program: as data URLs, never as paths.

The page sends the bytes of every picture. A path or an address that a request holds in their place
is refused without being opened.
"""

import base64
import binascii
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from rbjax.inference import reference as reference_lib
from rbjax.inference.reference import Reference
from rbjax.text.concepts import CONCEPTS
from tfds_retribooru import decoding
from tfds_retribooru.boxes import SizedBox

MAX_REFERENCES = 6
MAX_BYTES = 24 * 2**20  # of a file
MAX_PIXELS = 32_000_000  # of a picture


def read_references(items: Any) -> list[Reference]:
    """Reads the references that the page sends.

    Args:
        items: list of {"concept", "picture" (data URL or ""), "box" (left, top, width, height in
            pixels) or None}; None = no reference.

    Raises:
        ValueError: a sentence about the first reference that cannot be used.
    """
    items = items or []
    if not isinstance(items, list):
        raise ValueError("The references could not be read: reload the page.")
    if len(items) > MAX_REFERENCES:
        raise ValueError(
            f"There are {len(items)} references; at most {MAX_REFERENCES} can be used: remove some."
        )
    return [read_reference(item, number) for number, item in enumerate(items, 1)]


def read_reference(item: Any, number: int) -> Reference:
    """Reads one reference; see `read_references`.

    Args:
        item: of the list.
        number: its place from 1, for errors.

    Raises:
        ValueError: a sentence about what is wrong with it.
    """
    name = f"Reference {number}"
    if not isinstance(item, Mapping) or item.get("concept") not in CONCEPTS:
        raise ValueError(f"{name} has no type: choose {', '.join(CONCEPTS)}.")
    if not item.get("picture"):
        raise ValueError(f"{name} has no picture: add one, or remove the reference.")
    image = decode(item["picture"], name)
    try:
        return Reference(item["concept"], image, _box(item.get("box")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}. Draw its box again.") from error


def mask_box(item: Any, mask: Any, number: int) -> SizedBox:
    """Returns the box around the figure of a mask.

    Args:
        item: reference that it belongs to.
        mask: data URL, of an image of the size of the picture, white where the concept is.
        number: place of the reference from 1, for errors.

    Raises:
        ValueError: a sentence about what is wrong with the reference or with the mask.
    """
    image = read_reference({**item, "box": None}, number).image
    name = f"The mask of reference {number}"
    return reference_lib.mask_box(data_of(mask, name), image, name)


def decode(url: Any, name: str) -> np.ndarray:
    """Decodes a data URL to uint8 [H, W, 3], upright, in sRGB, over white.

    Args:
        url: of a picture.
        name: what it is, for errors.

    Raises:
        ValueError: a sentence about what is wrong with it.
    """

    def check_size(width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise decoding.Unreadable(
                f"its picture has {width * height / 1e6:.0f} megapixels, at most "
                f"{MAX_PIXELS / 1e6:.0f} can be used: make it smaller"
            )

    try:
        return np.array(decoding.decode(data_of(url, name), check_size).image)
    except decoding.Unreadable as error:
        raise ValueError(f"{name} cannot be used: {error}.") from error


def data_of(url: Any, name: str) -> bytes:
    """Returns the bytes of a data URL.

    Raises:
        ValueError: it is none, or it holds too much.
    """
    head, comma, text = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise ValueError(f"{name} is no picture that was added on this page: add it again.")
    if len(text) * 3 // 4 > MAX_BYTES:
        raise ValueError(f"{name} has more than {MAX_BYTES >> 20} MB: make its picture smaller.")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} did not arrive whole: add it again.") from error


def data_url(image: np.ndarray, text: Mapping[str, str] | None = None) -> str:
    """Returns uint8 [H, W, 3] as a PNG's data URL.

    Args:
        image: to encode.
        text: keys and values of the PNG's metadata.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=info)
    return png_url(buffer.getvalue())


def png_url(data: bytes) -> str:
    """Returns a PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _box(box: Any) -> tuple[int, int, int, int] | None:
    if not box:
        return None
    left, top, width, height = (round(float(value)) for value in box)
    return left, top, width, height
