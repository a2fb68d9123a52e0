"""What a collection is asked to do; plain data that can be sent to other processes and machines."""

import dataclasses
import pathlib

from tfds_retribooru.collect import filters, near_duplicates
from tfds_retribooru.collect.filters import Filter
from tfds_retribooru.collect.outfits import Rule


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a collection.

    Attributes:
        metadata: paths of the metadata files, sorted; "the first" of duplicates is by this order.
        out: folder that the annotations will be in; replaced as a whole.
        wanted: which posts are let through.
        rule: which images show the same outfit.
        images: folder of the pictures; None works from metadata alone.
        distance: bits of 256 within which two pictures are near copies.
        vqa: folder of a BLIP-VQA model, or None.
        faces, figures: ONNX files, or None.
        masks: folder for figure masks.
        workers: processes that read metadata and pictures.
    """

    metadata: tuple[str, ...]
    out: pathlib.Path
    wanted: Filter = dataclasses.field(default_factory=lambda: Filter(filters.read_vocabulary()))
    rule: Rule = Rule()
    images: pathlib.Path | None = None
    distance: int = near_duplicates.DISTANCE
    vqa: pathlib.Path | None = None
    faces: pathlib.Path | None = None
    figures: pathlib.Path | None = None
    masks: pathlib.Path | None = None
    workers: int = 1
