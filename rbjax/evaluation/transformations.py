"""Changes of a reference image that should not change what a model takes from it.

Each is a pure function of a record (image uint8 [H, W, 3], bbox [4] as `boxes.Box`, mask uint8
[H, W, 1]) to another one: a model that retrieves a concept scores the same with all of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from rbjax.data import images as images_lib

Record = dict[str, Any]

SHIFT = 1 / 10  # of the image's width
SCALE = 3 / 4
LOOSE = 1 / 4  # of the box, beyond each of its edges
BACKGROUND = (96, 116, 62)  # RGB; olive, which no palette of ours has


def moved(record: Mapping[str, Any]) -> Record:
    """Moves the image to the right; what is uncovered repeats its edge."""
    pixels = _arrays(record)
    width = pixels["image"].shape[1]
    shift = round(SHIFT * width)
    changed = {name: array[:, : width - shift] for name, array in pixels.items()}
    around = ((0, 0), (shift, 0), (0, 0))
    for name, array in changed.items():  # the figure does not grow where it touches the edge
        changed[name] = np.pad(array, around, mode="constant" if name == "mask" else "edge")
    return _with(record, changed, _box_of(record, shift=shift / width))


def scaled(record: Mapping[str, Any]) -> Record:
    """Makes the image smaller about the middle of its lower edge; around it repeats its edge."""
    pixels = _arrays(record)
    height, width = pixels["image"].shape[:2]
    size = max(1, round(SCALE * width)), max(1, round(SCALE * height))
    left, top = (width - size[0]) // 2, height - size[1]
    around = ((top, 0), (left, width - size[0] - left), (0, 0))
    changed = {}
    for name, array in pixels.items():
        small = Image.fromarray(array.squeeze(-1) if name == "mask" else array)
        shrunk = np.asarray(small.resize(size, Image.Resampling.BOX)).reshape(size[1], size[0], -1)
        changed[name] = np.pad(shrunk, around, mode="constant" if name == "mask" else "edge")
    x, y, w, h = (float(v) for v in record["bbox"])
    scale = np.array([size[0] / width, size[1] / height])
    centre = np.array([x, y]) * scale + np.array([left / width, top / height])
    return _with(record, changed, np.array([*centre, w * scale[0], h * scale[1]], np.float32))


def flipped(record: Mapping[str, Any]) -> Record:
    """Mirrors the image."""
    x, y, w, h = (float(v) for v in record["bbox"])
    changed = {name: array[:, ::-1] for name, array in _arrays(record).items()}
    return _with(record, changed, np.array([1 - x, y, w, h], np.float32))


def loose(record: Mapping[str, Any]) -> Record:
    """Leaves the image and draws a larger box around the face."""
    return dict(record) | {"bbox": _box_of(record, grow=LOOSE)}


def recolored(record: Mapping[str, Any]) -> Record:
    """Puts the figure before another background.

    Raises:
        ValueError: the record has no mask that says what the figure is.
    """
    pixels = _arrays(record)
    if "mask" not in pixels:
        raise ValueError("a reference without a mask cannot get another background")
    share = pixels["mask"] / 255
    image = np.round(share * pixels["image"] + (1 - share) * np.array(BACKGROUND)).astype(np.uint8)
    return dict(record) | {"image": image}


TRANSFORMATIONS: dict[str, Callable[[Mapping[str, Any]], Record]] = {
    "moved": moved,
    "scaled": scaled,
    "flipped": flipped,
    "loose": loose,
    "recolored": recolored,
}


def _arrays(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the image, and the mask where there is one."""
    arrays = {"image": np.asarray(images_lib.to_pillow(record["image"]))}
    return arrays | ({"mask": record["mask"]} if record.get("has_mask", True) else {})


def _with(record: Mapping[str, Any], arrays: dict[str, np.ndarray], bbox: np.ndarray) -> Record:
    return (
        dict(record)
        | {name: np.ascontiguousarray(a) for name, a in arrays.items()}
        | {"bbox": bbox}
    )


def _box_of(record: Mapping[str, Any], *, shift: float = 0.0, grow: float = 0.0) -> np.ndarray:
    """Returns the face's box, moved and grown, cut at the image's edges."""
    x, y, w, h = (float(v) for v in record["bbox"])
    left, right = x + shift - w * (0.5 + grow), x + shift + w * (0.5 + grow)
    top, bottom = y - h * (0.5 + grow), y + h * (0.5 + grow)
    left, top, right, bottom = np.clip([left, top, right, bottom], 0, 1)
    return np.array(
        [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], np.float32
    )
