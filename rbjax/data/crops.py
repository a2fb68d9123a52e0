"""Crops of a concept from an image: its box, cut out and resized."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from rbjax.data import images
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE

VIEWS = ("crop", "in_place")  # values of config.data.view
PixelBox = tuple[int, int, int, int]  # top, bottom, left, right


def concept_box(
    bbox: np.ndarray, mask: np.ndarray | None, *, concept: int, shape: tuple[int, int]
) -> PixelBox:
    """Returns the box of the pixels that a concept is seen in.

    Args:
        bbox: of the face, (centre x, centre y, width, height) relative to the image.
        mask: of the figure, uint8 [H, W, 1]; None: the entire image. Only CLOTHES reads it.
        concept: FACE: the face's box; CLOTHES: the figure below it; CHARACTER: the entire image.
        shape: H, W of the image.
    """
    height, width = shape
    x, y, w, h = (float(v) for v in bbox)
    bottom = int(np.clip(round((y + h / 2) * height), 1, height))
    if concept == FACE:
        top = int(np.clip(round((y - h / 2) * height), 0, bottom - 1))
        right = int(np.clip(round((x + w / 2) * width), 1, width))
        return top, bottom, int(np.clip(round((x - w / 2) * width), 0, right - 1)), right
    if concept == CLOTHES and mask is None and bottom < height:
        return bottom, height, 0, width
    if concept == CLOTHES and mask is not None:
        columns = np.flatnonzero((mask[bottom:, :, 0] > 127).any(axis=0))
        if len(columns):
            return bottom, height, int(columns[0]), int(columns[-1]) + 1
    return 0, height, 0, width


def crop_concept(record: Mapping[str, Any], concept: int, *, size: int, view: str) -> np.ndarray:
    """Crops one concept from a record: uint8 [size, size, 3].

    Args:
        record: with image (array or Pillow's), for FACE also bbox, for CLOTHES also mask. Without a
            mask (`has_mask` is false) the clothes are all that is below the face; a record without
            a box has no face and no clothes.
        concept: index into CONCEPTS.
        size: in pixels.
        view: "crop" resizes the concept's box to the square; "in_place" leaves it where it is and
            makes the rest of the image white.

    Raises:
        ValueError: unknown view.
    """
    if view not in VIEWS:
        raise ValueError(f"config.data.view={view!r}: use one of {', '.join(VIEWS)}")
    image = images.to_pillow(record["image"])
    if concept == CHARACTER:
        return images.resize(image, size)
    mask = record["mask"] if concept == CLOTHES and record.get("has_mask", True) else None
    shape = image.height, image.width
    box = concept_box(record["bbox"], mask, concept=concept, shape=shape)
    return crop_box(image, box, size=size, view=view)


def crop_box(image: np.ndarray | Image.Image, box: PixelBox, *, size: int, view: str) -> np.ndarray:
    """Crops a box from an image, uint8 [H, W, 3]: [size, size, 3]; see `crop_concept`."""
    top, bottom, left, right = box
    original = images.to_pillow(image)
    crop = original.crop((left, top, right, bottom))
    if view == "crop":
        return images.resize(crop, size)
    canvas = Image.new("RGB", original.size, (images.WHITE,) * 3)
    canvas.paste(crop, (left, top))
    return images.resize(canvas, size)
