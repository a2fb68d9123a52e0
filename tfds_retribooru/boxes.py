"""Boxes in an image: relative ones, as records hold them, and those in pixels.

* `Box`: centre and size relative to the image, of a record;
* `PixelBox`: edges in pixels, in Pillow's order, of what is cut out;
* `SizedBox`: corner and size in pixels, as a user gives it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Box = tuple[float, float, float, float]  # centre x, centre y, width, height, in [0, 1]

SizedBox = tuple[int, int, int, int]  # left, top, width, height, in pixels

PIXELS = 2.0  # of a box in pixels, the last two numbers are above this
MANY = 10**7  # above the side of any picture, in pixels
FORMATS = (  # of boxes in pixels, by what their four numbers are
    "centre x, centre y, width, height",  # as relative ones
    "left, top, width, height",
    "left, top, right, bottom",
)

EDGE = 0.01  # how far a box may stick out of the image and is cut, instead of being refused
FIGURE = 127  # values of a mask above it belong to the figure
CLOTHES = 1 / 16  # of the image's height and width, the least that clothes cover


class PixelBox(NamedTuple):
    """Edges in pixels: columns `left` to `right` - 1, rows `top` to `bottom` - 1."""

    left: int
    top: int
    right: int
    bottom: int


def from_sized(box: SizedBox) -> PixelBox:
    """Converts corner and size to edges."""
    left, top, width, height = box
    return PixelBox(left, top, left + width, top + height)


def is_inside(box: SizedBox, width: int, height: int) -> bool:
    """Returns whether a box is not empty, and inside an image of width x height pixels."""
    left, top, w, h = box
    return min(left, top) >= 0 and min(w, h) >= 1 and left + w <= width and top + h <= height


def is_in_pixels(box: Sequence[float]) -> bool:
    """Returns whether four numbers are pixels; relative ones are at most 1."""
    return min(box[2:]) > PIXELS and all(-MANY < number < MANY for number in box)


def from_pixels(box: Box, size: tuple[int, int], form: str = FORMATS[0]) -> Box | None:
    """Returns a box in pixels as a relative one; None if it is not inside the image, or empty.

    Args:
        box: four numbers of pixels.
        size: (width, height) of the image.
        form: one of FORMATS.
    """
    a, b, c, d = box
    width, height = (c - a, d - b) if form == FORMATS[2] else (c, d)
    x, y = (a, b) if form == FORMATS[0] else (a + width / 2, b + height / 2)
    return cut_box((x / size[0], y / size[1], width / size[0], height / size[1]))


def to_pixels(box: Box, *, width: int, height: int) -> PixelBox:
    """Converts a relative box of an image of width x height pixels; rounds, cuts, never empty."""
    x, y, w, h = box
    right = min(max(round((x + w / 2) * width), 1), width)
    bottom = min(max(round((y + h / 2) * height), 1), height)
    left = min(max(round((x - w / 2) * width), 0), right - 1)
    top = min(max(round((y - h / 2) * height), 0), bottom - 1)
    return PixelBox(left, top, right, bottom)


def to_relative(box: PixelBox, *, width: int, height: int) -> Box:
    """Converts a box of an image of width x height pixels to a relative one."""
    w, h = (box.right - box.left) / width, (box.bottom - box.top) / height
    return box.left / width + w / 2, box.top / height + h / 2, w, h


def clothes_box(box: Box, mask: np.ndarray | None, *, width: int, height: int) -> PixelBox | None:
    """Returns the box of the clothes: the rows and columns of the figure below its face.

    Args:
        box: of the face.
        mask: of the figure, uint8 [H, W]; None: all below the face is figure.
        width: of the image.
        height: of the image.

    Returns:
        None where less than CLOTHES of the height or width is there: then the clothes cannot be
        told from the face.
    """
    top = to_pixels(box, width=width, height=height).bottom
    left, right, bottom = 0, width, height
    if mask is not None:
        figure = mask[top:] > FIGURE
        rows, columns = (np.flatnonzero(figure.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return None
        left, right = int(columns[0]), int(columns[-1]) + 1
        top, bottom = top + int(rows[0]), top + int(rows[-1]) + 1
    if bottom - top < CLOTHES * height or right - left < CLOTHES * width:
        return None
    return PixelBox(left, top, right, bottom)


def cut_box(box: Box) -> Box | None:
    """Returns the box without what sticks out by up to EDGE; None if it is not inside, or empty."""
    x, y, w, h = box
    if not all(0 <= v <= 1 for v in box):  # false for NaN, too
        return None
    edges = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if min(edges) < -EDGE or max(edges) > 1 + EDGE:
        return None
    left, top, right, bottom = (min(max(float(v), 0.0), 1.0) for v in edges)
    if right <= left or bottom <= top:
        return None
    if (left, top, right, bottom) == edges:
        return float(x), float(y), float(w), float(h)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
