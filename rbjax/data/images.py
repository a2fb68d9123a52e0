"""Arrays in [-1, 1] as pictures: PNG files, pictures inside HTML, and grids."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

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
    return enlarged(Image.fromarray(canvas), scale)


def enlarged(picture: Image.Image, scale: int) -> Image.Image:
    size = (picture.width * scale, picture.height * scale)
    return picture if scale == 1 else picture.resize(size, Image.Resampling.NEAREST)


WHITE = 255


def resize(image: np.ndarray | Image.Image, size: int) -> np.ndarray:
    """Area-resizes a picture, uint8 [H, W, 3], to fit a white square: [size, size, 3]."""
    picture = as_picture(image)
    scale = size / max(picture.size)
    shape = tuple(max(1, round(side * scale)) for side in picture.size)
    small = picture.resize(shape, Image.Resampling.BOX)
    square = Image.new("RGB", (size, size), (WHITE,) * 3)
    square.paste(small, ((size - shape[0]) // 2, (size - shape[1]) // 2))
    return np.asarray(square)


def as_picture(image: np.ndarray | Image.Image) -> Image.Image:
    """As Pillow holds it, which spares copies where a picture comes from a file."""
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    return image.astype(np.float32) / 127.5 - 1


def to_uint8(image) -> np.ndarray:
    """float in [-1, 1] (clipped) -> uint8 in [0, 255]."""
    return np.round((np.clip(np.asarray(image), -1, 1) + 1) * 127.5).astype(np.uint8)
