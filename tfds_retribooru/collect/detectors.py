"""Face boxes and figure masks by ONNX models that the user gives; none is shipped or downloaded.

Faces: a YOLO-style detector, such as the public YOLOv8 anime face detectors. Input float32
[1, 3, H, W], RGB in [0, 1], the picture letterboxed in grey (114); output [1, 4 + classes, n] or
its transpose: centre x, centre y, width, height in pixels of the input, then a score a class.

Figures: a segmentation network, such as anime-segmentation's IS-Net. Input float32 [1, 3, H, W],
RGB in [0, 1], the picture letterboxed in black; output [1, 1, H, W] in [0, 1], 1 is figure.

A session is an `onnxruntime.InferenceSession` or anything with its `get_inputs` and `run`.
"""

import pathlib

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]

FACE_SIDE, FIGURE_SIDE = 640, 1024  # of the input in pixels, where the model leaves it open
CERTAIN = 0.5  # least score of a face


def load(path: str | pathlib.Path):
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


def face_box(session, picture: Image.Image, certain: float = CERTAIN) -> Box | None:
    """Returns the most certain face, or None.

    Returns:
        Centre x, centre y, width, height, as shares of the picture in [0, 1]; cut at its edges.

    Raises:
        ValueError: the output is not as documented above.
    """
    pixels, scale, left, top = _letterbox(session, picture, FACE_SIDE, 114)
    output = np.asarray(_run(session, pixels))
    if output.ndim != 3 or len(output) != 1 or min(output.shape[1:]) < 5:
        raise ValueError(
            f"a face detector gives [1, 4 + classes, n] or its transpose; this one {output.shape}"
        )
    rows = output[0] if output.shape[2] < output.shape[1] else output[0].T  # [n, 4 + classes]
    scores = rows[:, 4:].max(axis=1)
    best = int(scores.argmax())
    if not scores[best] >= certain:
        return None
    x, y, width, height = rows[best, :4].astype(float)
    corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    corners = (corners - [left, top, left, top]) / scale / [*picture.size, *picture.size]
    x0, y0, x1, y1 = np.clip(corners, 0, 1)
    if not (x1 > x0 and y1 > y0):
        return None
    return tuple(round(float(v), 6) for v in ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))


def figure_mask(session, picture: Image.Image) -> Image.Image:
    """Returns a greyscale picture of the same size: 255 is figure, 0 background.

    Raises:
        ValueError: the output is not as documented above.
    """
    pixels, scale, left, top = _letterbox(session, picture, FIGURE_SIDE, 0)
    output = np.asarray(_run(session, pixels))
    if output.shape != (1, 1, *pixels.shape[2:]):
        raise ValueError(
            f"a figure detector gives [1, 1, H, W] as large as its input {pixels.shape}; this one "
            f"{output.shape}"
        )
    mask = Image.fromarray(np.round(255 * np.clip(output[0, 0], 0, 1)).astype(np.uint8))
    width, height = (round(length * scale) for length in picture.size)
    shown = mask.crop((left, top, left + width, top + height))
    return shown.resize(picture.size, Image.Resampling.BILINEAR)


def _run(session, pixels: np.ndarray):
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _letterbox(session, picture: Image.Image, side: int, fill: int):
    """(float32 [1, 3, H, W] in [0, 1], scale, left, top): the picture in the model's input."""
    shape = session.get_inputs()[0].shape[2:]
    height, width = (length if isinstance(length, int) else side for length in shape)
    scale = min(width / picture.width, height / picture.height)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas = Image.new("RGB", (width, height), (fill, fill, fill))
    canvas.paste(picture.resize(size, Image.Resampling.BILINEAR), (left, top))
    pixels = np.asarray(canvas, np.float32).transpose(2, 0, 1)[None] / 255
    return pixels, scale, left, top
