"""The settings of a collection; plain data that can be sent to other processes and machines."""

import dataclasses
import pathlib

from tfds_retribooru.collect import filters, near_duplicates
from tfds_retribooru.collect.filters import Criteria
from tfds_retribooru.collect.outfits import Rule


@dataclasses.dataclass(frozen=True)
class Settings:
    """Inputs, output and thresholds of a collection.

    Attributes:
        metadata: paths of the metadata files, sorted; "the first" of duplicates is by this order.
        out: folder for the annotations, which must not exist.
        criteria: which posts become candidates.
        rule: which images show the same outfit.
        images: folder of the images; None works from metadata only.
        distance: bits of 256 within which two images are near copies.
        vqa: folder of a visual-question-answering model, or None.
        vqa_loader: MODULE:FUNCTION that opens it; "" is the one of the entry point group
            `image_models.VQA_GROUP`.
        faces, figures: ONNX files of detectors, or None.
        masks: folder for figure masks; None is `masks` beside `out`.
        workers: processes that read metadata and images.
        max_unreadable: share of posts that may be unreadable, see `outcome.check`, in [0, 1].
        min_kept: least share of the posts that has to be kept, in [0, 1].

    Raises:
        ValueError: max_unreadable or min_kept is no share, or masks lies in out.
    """

    metadata: tuple[str, ...]
    out: pathlib.Path
    criteria: Criteria = dataclasses.field(
        default_factory=lambda: Criteria(filters.read_vocabulary())
    )
    rule: Rule = Rule()
    images: pathlib.Path | None = None
    distance: int = near_duplicates.DISTANCE
    vqa: pathlib.Path | None = None
    vqa_loader: str = ""
    faces: pathlib.Path | None = None
    figures: pathlib.Path | None = None
    masks: pathlib.Path | None = None
    workers: int = 1
    max_unreadable: float = 0.2
    min_kept: float = 0.005

    def __post_init__(self) -> None:
        for name in ("max_unreadable", "min_kept"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name):g} is no share in [0, 1]")
        if self.masks and self.masks.resolve().is_relative_to(self.out.resolve()):
            raise ValueError(
                f"masks={self.masks} lies in out={self.out}, which must not exist yet: give "
                "a folder beside it"
            )

    @property
    def mask_folder(self) -> pathlib.Path:
        """The folder for figure masks."""
        return self.masks or self.out.parent / "masks"
