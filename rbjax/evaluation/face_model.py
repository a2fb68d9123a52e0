"""A network for faces in an ONNX file of a user, such as ArcFace's."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rbjax.models.pixels import to_uint8

SIDE = 112  # pixels of the input where the file does not say: ArcFace's


def load(path: Path) -> Callable[[Sequence[np.ndarray] | np.ndarray], np.ndarray]:
    """Returns what turns crops of faces, [H, W, 3] in [-1, 1], into vectors [N, D].

    The network has one input, [1, 3, S, S] or [1, S, S, 3], of RGB in [-1, 1], and its first output
    is the vector.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: onnxruntime is missing, or it is no such network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: an ONNX file of a network for faces")
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            "a face distance needs onnxruntime: pip install onnxruntime (or rbjax[face])"
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes
        raise ValueError(f"{path} is no ONNX file that can be read: {error}") from error
    (name, shape) = _input(session, path)

    def embed(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        rows = [session.run(None, {name: _prepared(image, shape)})[0] for image in images]
        return np.stack([np.asarray(row, np.float32).reshape(-1) for row in rows])

    return embed


def _input(session: Any, path: Path) -> tuple[str, list[int]]:
    """Returns name and shape of the input, with numbers for what the file leaves open."""
    given = session.get_inputs()
    shape = list(given[0].shape)
    if len(given) != 1 or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ValueError(
            f"{path}: a network for faces has one input [1, 3, S, S] or [1, S, S, 3], this one "
            f"{[list(one.shape) for one in given]}"
        )
    return given[0].name, [1] + [side if isinstance(side, int) else SIDE for side in shape[1:]]


def _prepared(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    is_first = shape[1] == 3
    height, width = shape[2:] if is_first else shape[1:3]
    picture = Image.fromarray(image if image.dtype == np.uint8 else to_uint8(image))
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    scaled = (pixels / 127.5 - 1)[None]
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 1)) if is_first else scaled
