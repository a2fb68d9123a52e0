"""Crops of a concept from an image: its box, cut out and resized."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from rbjax.data import images
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from tfds_retribooru import boxes, close_ups
from tfds_retribooru.boxes import PixelBox

VIEWS = ("crop", "in_place")  # values of config.data.view


class Change(NamedTuple):
    """How a reference differs from the crop of its concept's box.

    Attributes:
        left, top, right, bottom: how far each edge of the box is moved outwards, as a share of the
            box's width or height; inwards below 0. What lies outside of the image is cut off.
        flip: whether the crop is mirrored.
        blank: of clothes with a mask: whether all but the figure is made white.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    flip: bool = False
    blank: bool = False


UNCHANGED = Change()
CLOSE_UPS = {FACE: "face", CLOTHES: "clothes"}  # what a record may hold in more pixels


def draw_change(rng: np.random.Generator, *, jitter: float, flip: float, blank: float) -> Change:
    """Draws how a training reference differs; what cannot vary is not drawn.

    Args:
        rng: the only source of randomness.
        jitter: each edge moves by up to this share of the box outwards, or half of it inwards (what
            is drawn by hand is loose more often than it cuts something off); below 0.5.
        flip: rate of mirrored references.
        blank: rate of references without the background.
    """
    edges = rng.uniform(-jitter / 2, jitter, 4).tolist() if jitter else [0.0] * 4
    is_flipped, is_blank = (
        bool(rate) if rate in (0, 1) else bool(rng.random() < rate) for rate in (flip, blank)
    )
    return Change(*edges, flip=is_flipped, blank=is_blank)


def record_change(index: int, concept: int, rates: Mapping[str, float]) -> Change:
    """Draws how the reference of a concept from a record differs, the same each time.

    Args:
        index: position of the record in its split.
        concept: index into CONCEPTS; an entire image is not changed.
        rates: `jitter`, `flip` and `blank` of `draw_change`.
    """
    if concept == CHARACTER:
        return UNCHANGED
    return draw_change(np.random.default_rng([index, concept]), **rates)


def change_box(box: PixelBox, change: Change, *, shape: tuple[int, int]) -> PixelBox:
    """Returns a box with its edges moved, inside an image of H, W pixels; it is never empty."""
    height, width = shape
    w, h = box.right - box.left, box.bottom - box.top
    left = min(max(round(box.left - change.left * w), 0), width - 1)
    top = min(max(round(box.top - change.top * h), 0), height - 1)
    right = min(max(round(box.right + change.right * w), left + 1), width)
    bottom = min(max(round(box.bottom + change.bottom * h), top + 1), height)
    return PixelBox(left, top, right, bottom)


def concept_box(
    bbox: np.ndarray, mask: np.ndarray | None, *, concept: int, shape: tuple[int, int]
) -> PixelBox:
    """Returns the box of the pixels that a concept is seen in.

    Args:
        bbox: of the face, a `boxes.Box` as an array [4].
        mask: of the figure, uint8 [H, W, 1]; None: the entire image. Only CLOTHES reads it.
        concept: FACE: the face's box; CLOTHES: the figure below it; CHARACTER: the entire image.
        shape: H, W of the image.

    Raises:
        ValueError: the clothes cannot be told from the face; see `boxes.clothes_box`.
    """
    height, width = shape
    if concept == CHARACTER:
        return PixelBox(0, 0, width, height)
    x, y, w, h = (float(v) for v in bbox)
    if concept == FACE:
        return boxes.to_pixels((x, y, w, h), width=width, height=height)
    figure = None if mask is None else mask[:, :, 0]
    clothes = boxes.clothes_box((x, y, w, h), figure, width=width, height=height)
    if clothes is None:
        raise ValueError(f"a face at {x:g}, {y:g} of {w:g} x {h:g} leaves no clothes to be seen")
    return clothes


def crop_concept(
    record: Mapping[str, Any],
    concept: int,
    *,
    size: int,
    view: str,
    change: Change = UNCHANGED,
) -> np.ndarray:
    """Crops one concept from a record: uint8 [size, size, 3].

    Args:
        record: with image (array or Pillow's), for FACE and CLOTHES also bbox (and where they are
            stored, face and face_frame, or clothes and clothes_frame: the concept in more pixels),
            for CLOTHES also mask. Without a mask (`has_mask` is false) the clothes are all that is
            below the face; a record without a box has no face and no clothes (see
            `dataset.Split.clusters_with_clothes`).
        concept: index into CONCEPTS.
        size: in pixels.
        view: "crop" resizes the concept's box to the square; "in_place" leaves it where it is and
            makes the rest of the image white.
        change: of that crop.

    Raises:
        ValueError: unknown view.
    """
    if view not in VIEWS:
        raise ValueError(f"config.data.view={view!r}: use one of {', '.join(VIEWS)}")
    mask = record["mask"] if concept == CLOTHES and record.get("has_mask", True) else None
    bbox = record["bbox"] if concept != CHARACTER else np.zeros(4)
    image = images.to_pillow(record["image"])
    shape = image.height, image.width
    box = concept_box(bbox, mask, concept=concept, shape=shape)
    if view == "crop" and concept in CLOSE_UPS:
        name = CLOSE_UPS[concept]
        width, height = image.size
        place = bbox if concept == FACE else boxes.to_relative(box, width=width, height=height)
        if _shows(record, name, place, change):
            frame = record[f"{name}_frame"]
            image = images.to_pillow(record[name])
            if mask is not None and change.blank:
                mask = _part(mask, frame, image.size)
            shape = image.height, image.width
            place = close_ups.inside(place, frame)
            box = boxes.to_pixels(place, width=image.width, height=image.height)
    if mask is not None and change.blank:
        image = blank_background(image, mask)
    crop = crop_box(image, change_box(box, change, shape=shape), size=size, view=view)
    return crop[:, ::-1] if change.flip else crop


def _shows(
    record: Mapping[str, Any], name: str, box: Sequence[float] | np.ndarray, change: Change
) -> bool:
    """Returns whether a record has a concept in more pixels, and all that is shown of it."""
    frame = record.get(f"{name}_frame")
    if frame is None or not frame[2]:
        return False
    x, y, w, h = (float(v) for v in box)
    left, right = x - w / 2 - change.left * w, x + w / 2 + change.right * w
    top, bottom = y - h / 2 - change.top * h, y + h / 2 + change.bottom * h
    changed = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    return close_ups.shows(changed, frame)


def _part(mask: np.ndarray, frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns what a frame shows of a mask, uint8 [H, W, 1], enlarged to (width, height)."""
    height, width = mask.shape[:2]
    (x, y, w, h), sides = frame.tolist(), (width, height, width, height)
    edges = (max(x - w / 2, 0), max(y - h / 2, 0), min(x + w / 2, 1), min(y + h / 2, 1))
    part = tuple(edge * side for edge, side in zip(edges, sides, strict=True))
    figure = Image.fromarray(mask[:, :, 0]).resize(size, Image.Resampling.BICUBIC, part)
    return np.asarray(figure)[:, :, None]


def blank_background(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """Returns the figure of a mask, uint8 [H, W, 1], over white; its edges stay soft."""
    paper = Image.new("RGB", image.size, (images.WHITE,) * 3)
    return Image.composite(image, paper, Image.fromarray(mask[:, :, 0]))


def crop_box(image: np.ndarray | Image.Image, box: PixelBox, *, size: int, view: str) -> np.ndarray:
    """Crops a box from an image, uint8 [H, W, 3]: [size, size, 3]; see `crop_concept`."""
    original = images.to_pillow(image)
    crop = original.crop(box)
    if view == "crop":
        return images.resize(crop, size)
    canvas = Image.new("RGB", original.size, (images.WHITE,) * 3)
    canvas.paste(crop, (box.left, box.top))
    return images.resize(canvas, size)
