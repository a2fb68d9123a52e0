"""Face boxes and figure masks by ONNX models that the user gives; none is shipped or downloaded.

Faces: a YOLO-style detector, such as the public YOLOv8 anime face detectors. Input float32
[1, 3, H, W], RGB in [0, 1], the image letterboxed in grey (114); output [1, 4 + classes, n] or
its transpose: centre x, centre y, width, height in pixels of the input, then a score a class.

Figures: a segmentation network, such as anime-segmentation's IS-Net. Input float32 [1, 3, H, W],
RGB in [0, 1], the image letterboxed in black; output [1, 1, H, W] in [0, 1], 1 is figure.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from tfds_retribooru.boxes import Box

FACE_SIDE, FIGURE_SIDE = 640, 1024  # of the input in pixels, where the model leaves it open
FACE_SCORE = 0.5  # least score of a face


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that is used here."""

    def get_inputs(self) -> Sequence[Any]:
        """Returns the inputs, with `name` and `shape`; an int in a shape is a fixed length."""

    def run(self, output_names: None, input_feed: dict[str, np.ndarray]) -> Sequence[Any]:
        """Returns all outputs for the inputs by name."""


class _Letterboxed(NamedTuple):
    """An image scaled and pasted into the middle of a model's input.

    Attributes:
        pixels: float32 [1, 3, H, W], RGB in [0, 1].
        scale: pixels of the input for one of the image.
        left, top: where the image begins, in pixels of the input.
    """

    pixels: np.ndarray
    scale: float
    left: int
    top: int


def load(path: str | pathlib.Path) -> Session:
    """Opens an ONNX file on CPU, or on an accelerator where onnxruntime has one.

    Raises:
        ValueError: it is no ONNX model.
    """
    import onnxruntime  # extra [collect]

    try:
        return onnxruntime.InferenceSession(
            str(path), providers=onnxruntime.get_available_providers()
        )
    except Exception as error:  # onnxruntime's own exceptions have no common public class
        raise ValueError(f"{path} cannot be opened as an ONNX model: {error}") from error


def face_box(session: Session, image: Image.Image, min_score: float = FACE_SCORE) -> Box | None:
    """Returns the face of the highest score, cut at the edges; None without one of `min_score`.

    Raises:
        ValueError: the output is not as documented above.
    """
    inputs = _letterbox(session, image, FACE_SIDE, fill=114)
    output = np.asarray(_run(session, inputs.pixels))
    if output.ndim != 3 or len(output) != 1 or min(output.shape[1:]) < 5:
        raise ValueError(
            f"a face detector gives [1, 4 + classes, n] or its transpose; this one {output.shape}"
        )
    rows = output[0] if output.shape[2] < output.shape[1] else output[0].T  # [n, 4 + classes]
    scores = rows[:, 4:].max(axis=1)
    best = int(scores.argmax())
    if not scores[best] >= min_score:
        return None
    x, y, width, height = rows[best, :4].astype(float)
    corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    corners = (corners - [inputs.left, inputs.top] * 2) / inputs.scale / [*image.size, *image.size]
    x0, y0, x1, y1 = (float(v) for v in np.clip(corners, 0, 1))
    if not (x1 > x0 and y1 > y0):
        return None
    return round((x0 + x1) / 2, 6), round((y0 + y1) / 2, 6), round(x1 - x0, 6), round(y1 - y0, 6)


def figure_mask(session: Session, image: Image.Image) -> Image.Image:
    """Returns a greyscale image of the same size: 255 is figure, 0 background.

    Raises:
        ValueError: the output is not as documented above.
    """
    inputs = _letterbox(session, image, FIGURE_SIDE, fill=0)
    output = np.asarray(_run(session, inputs.pixels))
    if output.shape != (1, 1, *inputs.pixels.shape[2:]):
        raise ValueError(
            f"a figure detector gives [1, 1, H, W] as large as its input {inputs.pixels.shape}; "
            f"this one {output.shape}"
        )
    mask = Image.fromarray(np.round(255 * np.clip(output[0, 0], 0, 1)).astype(np.uint8))
    width, height = (round(length * inputs.scale) for length in image.size)
    right, bottom = inputs.left + width, inputs.top + height
    unpadded = mask.crop((inputs.left, inputs.top, right, bottom))
    return unpadded.resize(image.size, Image.Resampling.BILINEAR)


def _run(session: Session, pixels: np.ndarray) -> Any:
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _letterbox(session: Session, image: Image.Image, side: int, *, fill: int) -> _Letterboxed:
    shape = session.get_inputs()[0].shape[2:]
    height, width = (length if isinstance(length, int) else side for length in shape)
    scale = min(width / image.width, height / image.height)
    scaled = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    left, top = (width - scaled[0]) // 2, (height - scaled[1]) // 2
    canvas = Image.new("RGB", (width, height), (fill, fill, fill))
    canvas.paste(image.resize(scaled, Image.Resampling.BILINEAR), (left, top))
    pixels = np.asarray(canvas, np.float32).transpose(2, 0, 1)[None] / 255
    return _Letterboxed(pixels, scale, left, top)
