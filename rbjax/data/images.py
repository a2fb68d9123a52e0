"""Resizing and grids of images: uint8 [H, W, 3], or float32 in [-1, 1]."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rbjax.models.pixels import to_uint8

GAP = 2  # pixels between the images of a grid
WHITE = 255
FONT = 12  # pixels
LINE = 15  # pixels of a line of text


def to_pillow(image: np.ndarray | Image.Image) -> Image.Image:
    """Converts uint8 [H, W, 3]; a Pillow image, of a file that may not be decoded yet, stays."""
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def resize(image: np.ndarray | Image.Image, size: int) -> np.ndarray:
    """Resizes an image, uint8 [H, W, 3], to fit a white square: [size, size, 3].

    Areas are averaged where it shrinks; what is enlarged is interpolated (bicubic).
    """
    original = to_pillow(image)
    resized = _scale(original, size / max(original.size), least=(1, 1))
    width, height = resized.size
    if resized.size == (size, size):
        return np.asarray(resized)
    square = Image.new("RGB", (size, size), (WHITE,) * 3)
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.asarray(square)


def shown(size: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns what an image of (width, height) covers of the square of `resize`.

    Returns:
        float32 [4], left, top, right and bottom as shares of the side, to a pixel.
    """
    width, height = (n / max(size) for n in size)
    return np.array([1 - width, 1 - height, 1 + width, 1 + height], np.float32) / 2


def cover(image: np.ndarray | Image.Image, shape: tuple[int, int]) -> np.ndarray:
    """Resizes an image, uint8 [H, W, 3], to cover (width, height), and cuts it at its centre."""
    original = to_pillow(image)
    scale = max(new / old for new, old in zip(shape, original.size, strict=True))
    resized = _scale(original, scale, least=shape)
    left, top = ((old - new) // 2 for old, new in zip(resized.size, shape, strict=True))
    return np.asarray(resized.crop((left, top, left + shape[0], top + shape[1])))


def _scale(image: Image.Image, scale: float, *, least: tuple[int, int]) -> Image.Image:
    """Resizes by areas to shrink, by interpolation (bicubic) to enlarge."""
    width, height = (max(n, round(side * scale)) for side, n in zip(image.size, least, strict=True))
    kind = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BICUBIC
    return image.resize((width, height), kind)


def enlarge(image: Image.Image, scale: int) -> Image.Image:
    """Repeats every pixel `scale` times in both directions."""
    size = (image.width * scale, image.height * scale)
    return image if scale == 1 else image.resize(size, Image.Resampling.NEAREST)


def grid(rows: Sequence[Sequence[np.ndarray]], scale: int = 1) -> Image.Image:
    """Returns one image of rows of images [H, W, 3] in [-1, 1], all of one size.

    Args:
        rows: may be of different lengths; places without an image stay white.
        scale: repeats every pixel so often in both directions.

    Raises:
        ValueError: if there is no image.
    """
    if not any(len(row) for row in rows):
        raise ValueError("a grid needs at least one image.")
    height, width, _ = next(image for row in rows for image in row).shape
    longest = max(map(len, rows))
    shape = (len(rows) * (height + GAP) - GAP, longest * (width + GAP) - GAP, 3)
    canvas = np.full(shape, WHITE, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + GAP), j * (width + GAP)
            canvas[top : top + height, left : left + width] = to_uint8(image)
    return enlarge(Image.fromarray(canvas), scale)


def captioned(
    rows: Sequence[Sequence[np.ndarray]], heads: Sequence[str], captions: Sequence[str], scale: int
) -> Image.Image:
    """Returns the grid of rows of images, each row below its caption.

    Args:
        rows: as of `grid`, at least one, of one length.
        heads: of the columns; they stand above the first row.
        captions: of the rows; what is longer than the grid is wide continues on another line.
        scale: as of `grid`.
    """
    drawn = [grid([row], scale) for row in rows]
    width, font = max(image.width for image in drawn), ImageFont.load_default(FONT)
    texts = [_lines(caption, font, width) for caption in captions]
    heights = [
        image.height + LINE * len(text) + GAP for image, text in zip(drawn, texts, strict=True)
    ]
    canvas = Image.new("RGB", (width, LINE + sum(heights)), (WHITE,) * 3)
    pen = ImageDraw.Draw(canvas)
    for number, head in enumerate(heads):
        left = number * (drawn[0].width + GAP * scale) // len(heads)
        pen.text((left, 0), head, fill=(0, 0, 0), font=font)
    top = LINE
    for image, text, height in zip(drawn, texts, heights, strict=True):
        pen.text((0, top), "\n".join(text), fill=(0, 0, 0), font=font, spacing=LINE - FONT)
        canvas.paste(image, (0, top + LINE * len(text)))
        top += height
    return canvas


def _lines(text: str, font: Any, width: int) -> list[str]:
    """Breaks a text between words into lines of at most `width` pixels, where words allow it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
