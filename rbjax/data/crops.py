"""From a decoded record to what a model reads: views of a concept, sizes, tokens.

Pictures are uint8 [H, W, 3] here and float32 in [-1, 1] from `to_float` on.
"""

import numpy as np
from PIL import Image

from rbjax.data import images
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE

VIEWS = ("crop", "in_place")


def concept_box(
    bbox: np.ndarray, mask: np.ndarray | None, concept: int, shape: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The pixels (top, bottom, left, right) that show a concept.

    Args:
        bbox: of the face, (centre x, centre y, width, height) relative to the picture.
        mask: figure, uint8 [H, W, 1]; None: the whole picture. Only CLOTHES reads it.
        concept: FACE: the box; CLOTHES: the figure below the box; CHARACTER: the whole picture.
        shape: H, W of the picture.
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


def concept_view(record: dict, concept: int, size: int, view: str) -> np.ndarray:
    """What a reference shows of one concept: uint8 [size, size, 3].

    Args:
        record: with image (array or Pillow's), for FACE also bbox, for CLOTHES also mask. Without a
            mask (`has_mask` is false) the clothes are all that is below the face; a record without
            a box has no face or clothes to show.
        concept: index into CONCEPTS.
        size: in pixels.
        view: "crop" enlarges the concept's box to the square; "in_place" leaves it where it is and
            paints the rest white.

    Raises:
        ValueError: unknown view.
    """
    if view not in VIEWS:
        raise ValueError(f"config.data.view={view!r}: use one of {', '.join(VIEWS)}")
    image = images.as_picture(record["image"])
    if concept == CHARACTER:
        return images.resize(image, size)
    mask = record["mask"] if concept == CLOTHES and record.get("has_mask", True) else None
    box = concept_box(record["bbox"], mask, concept, image.size[::-1])
    return box_view(image, box, size, view)


def box_view(
    image: np.ndarray | Image.Image, box: tuple[int, int, int, int], size: int, view: str
) -> np.ndarray:
    """Uint8 [H, W, 3] -> what a box (top, bottom, left, right) in it shows: [size, size, 3]."""
    top, bottom, left, right = box
    picture = images.as_picture(image)
    part = picture.crop((left, top, right, bottom))
    if view == "crop":
        return images.resize(part, size)
    painted = Image.new("RGB", picture.size, (images.WHITE,) * 3)
    painted.paste(part, (left, top))
    return images.resize(painted, size)
