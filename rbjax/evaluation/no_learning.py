"""Images that no model made: what is reached without learning, and the metrics' own controls."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor
from scipy import sparse

from rbjax.data import crops
from rbjax.data import images as images_lib
from rbjax.evaluation.case_prompts import Vocabulary
from rbjax.evaluation.suite import Case
from rbjax.models.pixels import to_float
from rbjax.text.concepts import CARRIED, CHARACTER, CLOTHES, FACE
from tfds_retribooru import tag_text
from tfds_retribooru.avatars.attributes import PALETTE
from tfds_retribooru.boxes import PixelBox

GRAY = (128, 128, 128)

Record = Mapping[str, Any]  # with image, bbox, mask and has_mask, as `crops.crop_concept` reads it
ReadRecord = Callable[[int], Record]


@dataclasses.dataclass(frozen=True)
class TrainingImages:
    """The images that the model was trained on.

    Attributes:
        tags: of every one.
        read: positions to entire images, float32 [N, H, W, 3] in [-1, 1].
    """

    tags: Sequence[Sequence[str]]
    read: Callable[[Sequence[int]], np.ndarray]


def background_color(prompt: Sequence[str]) -> tuple[int, int, int]:
    """Returns the colour (RGB) of the tag "... background"; gray where there is none or no colour.

    A colour is one that avatars are drawn in, or has a name in CSS.
    """
    for tag in prompt:
        name, _, last = tag_text.normal(tag).rpartition(" ")
        if last == "background" and name in PALETTE:
            return PALETTE[name]
        if last == "background" and name in ImageColor.colormap:
            red, green, blue = ImageColor.getrgb(name)[:3]
            return red, green, blue
    return GRAY


def paste(case: Case, read_record: ReadRecord, size: int) -> np.ndarray:
    """Pastes what the references are given for on the prompt's colour: uint8 [size, size, 3].

    The clothes stay where they are, the face goes into the box of the face above them; of two
    references for one concept the first is taken. A mask cuts out the figure, where there is one.
    """
    first = {c: p for p, c in reversed(list(zip(case.references, case.concepts, strict=True)))}
    below = first.get(CLOTHES, first.get(CHARACTER, first.get(FACE)))
    assert below is not None  # a case has a reference
    record = read_record(below)
    image = images_lib.to_pillow(record["image"])
    canvas = Image.new("RGB", image.size, background_color(case.prompt))
    shape = image.height, image.width
    for concept in (CHARACTER, CLOTHES, FACE):
        if concept in first:
            source = read_record(first[concept])
            box = crops.concept_box(
                record["bbox"], _mask(record), concept=concept, shape=shape
            )  # where it goes
            _paste(canvas, source, concept, box)
    return images_lib.resize(canvas, size)


def _paste(canvas: Image.Image, record: Record, concept: int, to: PixelBox) -> None:
    """Pastes the concept of a record into a box of the canvas."""
    image, mask = images_lib.to_pillow(record["image"]), _mask(record)
    shape = image.height, image.width
    box = crops.concept_box(record["bbox"], mask, concept=concept, shape=shape)
    size = (to.right - to.left, to.bottom - to.top)
    alpha = None if mask is None else Image.fromarray(mask[:, :, 0]).crop(box).resize(size)
    canvas.paste(image.crop(box).resize(size), (to.left, to.top), alpha)


def _mask(record: Record) -> np.ndarray | None:
    return record["mask"] if record.get("has_mask", True) else None


def nearest_training(
    cases: Sequence[Case],
    tags: Mapping[int, Sequence[str]],
    vocabulary: Vocabulary,
    training_tags: Sequence[Sequence[str]],
) -> list[int]:
    """Returns for each case the training image that has most of the tags that are asked for.

    Asked for are those of the prompt, and of each reference those of the kinds that its concept
    carries; of equal images it is the first. It is the most that a model which only reproduces
    training images can reach.

    Args:
        cases: the cases.
        tags: position of a reference to its tags.
        vocabulary: of the data set.
        training_tags: of every training image.
    """
    number = {tag: i for i, tag in enumerate(sorted({tag for row in training_tags for tag in row}))}
    available = _indicators([set(row) for row in training_tags], number)
    asked = _indicators([_asked_tags(case, tags, vocabulary) for case in cases], number)
    return [int(row.argmax()) for row in (asked @ available.T).toarray()]


def _asked_tags(case: Case, tags: Mapping[int, Sequence[str]], vocabulary: Vocabulary) -> set[str]:
    asked = set(case.prompt)
    for position, concept in zip(case.references, case.concepts, strict=True):
        known = vocabulary["tags"]
        asked |= {t for t in tags[position] if known.get(t, {}).get("kind") in CARRIED[concept]}
    return asked


def _indicators(rows: Sequence[set[str]], number: Mapping[str, int]) -> sparse.csr_array:
    """Returns [N, T], 1 where a row has the tag."""
    pairs = [(i, number[tag]) for i, row in enumerate(rows) for tag in row if tag in number]
    places = np.array(pairs, np.int64).reshape(-1, 2).T
    ones = np.ones(len(pairs), np.float32)
    return sparse.csr_array((ones, tuple(places)), shape=(len(rows), len(number)))


def constant(case: Case, size: int) -> np.ndarray:
    """Returns the prompt's background and nothing else, float32 [size, size, 3] in [-1, 1]."""
    return to_float(np.full((size, size, 3), background_color(case.prompt), np.uint8))


def noise(case: Case, size: int) -> np.ndarray:
    """Returns independent uniform values, float32 [size, size, 3] in [-1, 1]."""
    return np.random.default_rng(case.seed).uniform(-1, 1, (size, size, 3)).astype(np.float32)
