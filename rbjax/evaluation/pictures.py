"""Arrays in [-1, 1] as pictures: PNG files, pictures inside HTML, and grids."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rbjax.data.transforms import to_uint8

GAP = 2  # pixels between the pictures of a grid
PAPER = 255


def grid(rows: Sequence[Sequence[np.ndarray]], scale: int = 1) -> Image.Image:
    """Returns one picture of rows of images [H, W, 3] in [-1, 1], all of one size.

    Args:
        rows: may be of different lengths; what is missing stays white.
        scale: enlarges every pixel by this whole number.

    Raises:
        ValueError: if there is no image.
    """
    if not any(len(row) for row in rows):
        raise ValueError("a grid needs at least one image.")
    height, width, _ = next(image for row in rows for image in row).shape
    longest = max(map(len, rows))
    shape = (len(rows) * (height + GAP) - GAP, longest * (width + GAP) - GAP, 3)
    canvas = np.full(shape, PAPER, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + GAP), j * (width + GAP)
            canvas[top : top + height, left : left + width] = to_uint8(image)
    return _enlarged(Image.fromarray(canvas), scale)


def data_uri(image: np.ndarray, scale: int = 1) -> str:
    """Returns an image [H, W, 3] in [-1, 1] as the `src` of an HTML picture."""
    buffer = io.BytesIO()
    _enlarged(Image.fromarray(to_uint8(image)), scale).save(buffer, "PNG", optimize=True)
    return png_uri(buffer.getvalue())


def png_uri(data: bytes) -> str:
    """Returns a PNG file as the `src` of an HTML picture."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _enlarged(picture: Image.Image, scale: int) -> Image.Image:
    size = (picture.width * scale, picture.height * scale)
    return picture if scale == 1 else picture.resize(size, Image.Resampling.NEAREST)
