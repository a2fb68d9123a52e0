"""Where records show concepts, and copying of faces."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rbjax.data import crops
from rbjax.data import images as images_lib
from rbjax.evaluation import copying
from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.embedders import FACE as FACES
from rbjax.evaluation.embedders import Embed
from rbjax.evaluation.similarity import FindRegion, Region
from rbjax.evaluation.suite import Case
from rbjax.models.pixels import to_float, to_uint8
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE

FACE_SIDE = 112  # pixels to which faces are brought, to be compared


def of_records(read_record: Callable[[int], Mapping[str, Any]]) -> FindRegion:
    """Returns what finds a concept by a record's box, in the square that shows the record.

    Args:
        read_record: reads a record, as `crops.crop_concept` needs it.
    """
    known: dict[tuple[int, int], Region | None] = {}

    def find(position: int, concept: int) -> Region | None:
        if (position, concept) not in known:
            known[position, concept] = _region(read_record(position), concept)
        return known[position, concept]

    return find


def _region(record: Mapping[str, Any], concept: int) -> Region | None:
    if concept == CHARACTER or not np.any(record["bbox"]):
        return None
    image = images_lib.to_pillow(record["image"])
    has_mask = concept == CLOTHES and record.get("has_mask", True)
    box = crops.concept_box(
        record["bbox"],
        record["mask"] if has_mask else None,
        concept=concept,
        shape=(image.height, image.width),
    )
    return in_square((box.left, box.top, box.right, box.bottom), image.size)


def in_square(box: Sequence[float], size: tuple[int, int]) -> Region:
    """Returns where a box of an image (width, height) is in the square of `images.resize`."""
    side, (width, height) = max(size), size
    left, top = (side - width) / 2, (side - height) / 2
    offsets = (left, top, left, top)
    return Region(*((edge + offset) / side for edge, offset in zip(box, offsets, strict=True)))


def copying_of_faces(
    systems: Mapping[str, SystemImages], read_images: ReadImages, region: FindRegion, embed: Embed
) -> dict[str, Any]:
    """Returns {system: cell} of `copying`, measured on the faces alone.

    The face of a real image is in its own box, that of a generated one in the box of its first face
    reference. Cases without such boxes are not counted.
    """

    def read(positions: Sequence[int]) -> np.ndarray:
        images = read_images(positions)
        found = [region(position, FACE) for position in positions]
        return np.stack([_cut(i, r) for i, r in zip(images, found, strict=True)])

    rows = {}
    for name, system in systems.items():
        cut = [
            (_cut(image, region(_faces(case)[0], FACE)), case, system.faults.get(number))
            for number, (case, image) in enumerate(zip(system.cases, system.images, strict=True))
            if case.real is not None
            and _faces(case)
            and None not in [region(p, FACE) for p in (*_faces(case), case.real)]
        ]
        if cut:
            images, cases, faults = zip(*cut, strict=True)
            faulty = {i: fault for i, fault in enumerate(faults) if fault}
            rows[name] = SystemImages(np.stack(images), tuple(map(_only_faces, cases)), faulty)
    found = copying.of_systems(rows, read, {FACES: embed})
    return {name: found[name][FACES] if name in found else None for name in systems}


def _faces(case: Case) -> tuple[int, ...]:
    return tuple(p for p, c in zip(case.references, case.concepts, strict=True) if c == FACE)


def _only_faces(case: Case) -> Case:
    faces = _faces(case)
    return dataclasses.replace(case, references=faces, concepts=(FACE,) * len(faces))


def _cut(image: np.ndarray, region: Region | None) -> np.ndarray:
    """Returns a region as float32 [FACE_SIDE, FACE_SIDE, 3]; one that is not finite stays so."""
    assert region is not None  # chosen so
    part = region.of(image)
    if not np.isfinite(part).all():
        return np.full((FACE_SIDE, FACE_SIDE, 3), np.nan, np.float32)
    square = Image.fromarray(to_uint8(part)).resize(
        (FACE_SIDE, FACE_SIDE), Image.Resampling.BICUBIC
    )
    return to_float(np.asarray(square))
