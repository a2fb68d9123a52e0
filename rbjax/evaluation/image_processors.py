"""Image processors of CLIP and DINO folders: resize, cut out the centre, rescale, normalise.

As transformers' `CLIPImageProcessor`, `ViTImageProcessor` and `BitImageProcessor` in their Pillow
forms.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rbjax.models.pixels import to_uint8
from rbjax.vqa import preprocessing
from rbjax.vqa.preprocessing import BlipImageProcessor

# What is absent takes the defaults of the class: ViTs fill a square, the others cut it out.
VIT = {"size": 224, "resample": 2, "image_mean": 0.5, "image_std": 0.5, "do_center_crop": False}
CUT = {"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True}


@dataclasses.dataclass(frozen=True)
class ImageProcessor:
    """Makes the images that a model reads.

    Attributes:
        shortest: pixels to which the shorter side is resized; None: `last` resizes to its size.
        crop: height and width that are cut out of the centre after that; None: all is kept.
        last: resizes (if it has a size), rescales and normalises.
    """

    shortest: int | None
    crop: tuple[int, int] | None
    last: BlipImageProcessor

    @classmethod
    def read(cls, folder: Path) -> "ImageProcessor":
        """Reads a folder's processor.

        Raises:
            FileNotFoundError: it holds none.
            ValueError: a setting is not supported; the file is named.
        """
        path, content = preprocessing.settings(folder)
        if not content:
            raise FileNotFoundError(
                f"No {' or '.join(preprocessing.FILES)} in {folder}: save the image processor "
                "there too (transformers)"
            )
        try:
            return cls.from_dict(content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "ImageProcessor":
        """Reads transformers' settings.

        Raises:
            KeyError, TypeError, ValueError: they have no sense, or are not supported.
        """
        known = {name: value for name, value in content.items() if value is not None}
        kind = known.get("image_processor_type", known.get("feature_extractor_type", ""))
        is_vit = str(kind).startswith("ViT")
        settings: dict[str, Any] = (VIT if is_vit else CUT) | known
        size = settings.pop("size")
        if isinstance(size, int) and not is_vit:
            size = {"shortest_edge": size}
        shortest = size.get("shortest_edge") if isinstance(size, Mapping) else None
        crop = _pair(settings["crop_size"]) if settings.pop("do_center_crop") else None
        if not settings.get("do_resize", True):
            shortest = None
        settings |= {"do_resize": False} if shortest else {"size": size}
        settings.setdefault("resample", 3)
        if crop and shortest and max(crop) > shortest:
            raise ValueError(f"crop_size {crop} is more than the shortest edge {shortest}")
        return cls(shortest, crop, BlipImageProcessor.from_dict(settings))

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 [N, S, S, 3].

        Args:
            images: uint8 [H, W, 3] of any sizes, or float in [-1, 1], which is rounded to uint8.
        """
        return np.concatenate([self.last([self._cut(image)]) for image in images])

    def _cut(self, image: np.ndarray) -> np.ndarray:
        image = np.asarray(image) if image.dtype == np.uint8 else to_uint8(image)
        if self.shortest is not None:
            height, width = image.shape[:2]
            scaled = [int(self.shortest * side / min(height, width)) for side in (width, height)]
            size = (scaled[0], scaled[1])
            image = np.asarray(Image.fromarray(image).resize(size, self.last.resample))
        if self.crop is not None:
            top, left = ((n - m) // 2 for n, m in zip(image.shape, self.crop, strict=False))
            image = image[top : top + self.crop[0], left : left + self.crop[1]]
        return image


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
