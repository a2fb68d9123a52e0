"""Faces and clothes in more pixels than the stored picture has of them."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfds_retribooru import boxes
from tfds_retribooru.boxes import Box

SIDE = 384  # pixels of a concept's longer side that are kept at most: as large as it is shown
MARGIN = 0.15  # of a concept's width and height, kept around it, so that its edges may move
GAIN = 1.25  # it is kept if it has so many times the pixels (of a side) of the stored picture's
JPEG_QUALITY = 95  # of what is stored, with full colour resolution
EDGE = 0.01  # of a side, what an edge may be outside of what is kept


class CloseUp(NamedTuple):
    """A concept and what is around it, before the picture was shrunk.

    Attributes:
        data: JPEG bytes of an RGB image.
        frame: what of the picture it shows.
    """

    data: bytes
    frame: Box


def cut(image: Image.Image, box: Box, stored: tuple[int, int]) -> CloseUp | None:
    """Returns a concept of a picture that is stored smaller, with MARGIN around it.

    Args:
        image: before it was shrunk.
        box: of the concept.
        stored: (width, height) of the picture as it is stored.

    Returns:
        Its longer side is SIDE at most. None where the stored picture has that many pixels of it,
        or nearly as many as the file has.
    """
    there, possible = (max(box[2] * size[0], box[3] * size[1]) for size in (stored, image.size))
    possible = min(possible, SIDE)
    if possible < GAIN * there:
        return None
    x, y, w, h = box
    wide = (x, y, w * (1 + 2 * MARGIN), h * (1 + 2 * MARGIN))
    edges = boxes.to_pixels(wide, width=image.width, height=image.height)
    part = image.crop(edges)
    scale = possible / max(w * image.width, h * image.height)
    if scale < 1:
        size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
        part = part.resize(size, Image.Resampling.BOX)
    frame = boxes.to_relative(edges, width=image.width, height=image.height)
    return CloseUp(encode_jpeg(part), frame)


def encode_jpeg(image: Image.Image) -> bytes:
    """Encodes as JPEG of JPEG_QUALITY, with full colour resolution."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def inside(box: Box | np.ndarray, frame: np.ndarray) -> Box:
    """Returns a box of a picture as one of what a frame shows of it."""
    x, y, w, h = (float(number) for number in box)
    left, top = (float(frame[k] - frame[k + 2] / 2) for k in (0, 1))
    width, height = float(frame[2]), float(frame[3])
    return (x - left) / width, (y - top) / height, w / width, h / height


def shows(box: Box, frame: np.ndarray) -> bool:
    """Returns whether a frame shows all that a picture has of a box, which may be beyond it."""
    x, y, w, h = inside(box, frame)
    left, top = frame[:2] - frame[2:] / 2  # the frame in the picture, as edges
    right, bottom = 1 - (frame[:2] + frame[2:] / 2)
    sides = ((x - w / 2, left), (y - h / 2, top), (1 - x - w / 2, right), (1 - y - h / 2, bottom))
    return all(within >= -EDGE or beyond <= EDGE for within, beyond in sides)
