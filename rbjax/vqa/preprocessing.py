"""Images as a VQA model reads them: those of the model that ships, and of transformers' folders.

Axes: N images, H and W their size, S the side of the model's square.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from PIL import Image

from rbjax.interop import json_files
from rbjax.models.pixels import to_float, to_uint8

SIDE = 128  # pixels of the square that our model is given of an image of any size
FILES = ("processor_config.json", "preprocessor_config.json")  # of transformers 5, and before
UNSUPPORTED = ("do_center_crop", "do_pad")  # which no BLIP needs


def resize(images: ArrayLike, size: int) -> jax.Array:
    """Resizes [N, H, W, 3] to [N, size, size, 3], linearly and with anti-aliasing."""
    images = jnp.asarray(images)
    shape = (images.shape[0], size, size, 3)
    return jax.image.resize(images, shape, "linear", antialias=True)


@dataclasses.dataclass(frozen=True)
class SquareResize:
    """What a model of `scripts/train_vqa.py` reads: [-1, 1], linear with anti-aliasing.

    Attributes:
        size: pixels of the model's square.
    """

    size: int

    def __call__(self, images: Sequence[np.ndarray]) -> jax.Array:
        """Returns float32 [N, S, S, 3].

        Args:
            images: float [H, W, 3] in [-1, 1] of one size, or uint8 [H, W, 3] of any sizes.
        """
        return resize(np.stack([self._one(image) for image in images]), self.size)

    def _one(self, image: np.ndarray) -> np.ndarray:
        if image.dtype != np.uint8:
            return np.asarray(image, np.float32)
        square = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
        return to_float(np.asarray(square))


@dataclasses.dataclass(frozen=True)
class BlipImageProcessor:
    """transformers' class of this name (its Pillow form): resize, rescale, normalise.

    Attributes:
        size: height and width of the output; None leaves images as they are.
        resample: Pillow's filter.
        scale: by which values in [0, 255] are multiplied.
        mean: of each channel, subtracted after that.
        std: of each channel, by which the rest is divided.
    """

    size: tuple[int, int] | None
    resample: Image.Resampling = Image.Resampling.BICUBIC
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "BlipImageProcessor":
        """Reads transformers' settings; absent ones (or null) take its defaults.

        Raises:
            ValueError: a size or step that no BLIP can read.
        """
        config = {name: value for name, value in config.items() if value is not None}
        if found := [name for name in UNSUPPORTED if config.get(name)]:
            raise ValueError(f"{', '.join(found)} is not supported.")
        known: dict[str, Any] = {"size": _size(config.get("size", 384))}
        if not config.get("do_resize", True):
            known["size"] = None
        if "resample" in config:
            known["resample"] = Image.Resampling(config["resample"])
        if "rescale_factor" in config:
            known["scale"] = float(config["rescale_factor"])
        if not config.get("do_rescale", True):
            known["scale"] = 1.0
        for name in ("mean", "std"):
            if f"image_{name}" in config:
                known[name] = _channels(config[f"image_{name}"])
        if not config.get("do_normalize", True):
            known |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
        return cls(**known)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 [N, *size, 3]; values within 1e-6 of transformers'.

        Args:
            images: uint8 [H, W, 3] of any sizes, or float in [-1, 1], which is rounded to uint8.
        """
        return np.stack([self._one(image) for image in images])

    def _one(self, image: np.ndarray) -> np.ndarray:
        image = np.asarray(image) if image.dtype == np.uint8 else to_uint8(image)
        if self.size is not None:
            height, width = self.size
            image = np.asarray(Image.fromarray(image).resize((width, height), self.resample))
        scaled = (image.astype(np.float64) * self.scale).astype(np.float32)
        return (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)


def find(folder: Path) -> BlipImageProcessor | None:
    """Reads the image processor's settings in a folder; None if it holds none.

    Raises:
        ValueError: a setting is not supported; the file is named.
    """
    path, content = settings(folder)
    if not content:
        return None
    try:
        return BlipImageProcessor.from_dict(content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Returns the file with an image processor's settings, and these; empty if there is none."""
    for path in (folder / name for name in FILES):
        content = json_files.read(path) if path.is_file() else {}
        if path.name == FILES[0]:  # nested; of older versions it holds other settings
            content = content.get("image_processor") or {}
        if content:
            return path, content
    return folder / FILES[1], {}


def _size(size: Any) -> tuple[int, int]:
    """Returns height and width of transformers' forms: a number, a pair, a dict."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and {"height", "width"} <= size.keys():
        return int(size["height"]), int(size["width"])
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        return int(size[0]), int(size[1])
    raise ValueError(f"size {size!r}: a BLIP needs a height and a width.")


def _channels(values: Any) -> tuple[float, ...]:
    channels = (values,) * 3 if isinstance(values, (int, float)) else tuple(values)
    if len(channels) != 3:
        raise ValueError(f"Expected a value for each of 3 channels, got {values!r}.")
    return channels
