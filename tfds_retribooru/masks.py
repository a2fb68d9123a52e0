"""Mask files: what marks a figure in an image, however it was saved."""

import numpy as np
from PIL import Image

from tfds_retribooru import boxes, decoding
from tfds_retribooru.decoding import Unreadable

THRESHOLD = boxes.FIGURE  # pixels above it belong to the figure
GREY = 8  # levels by which the channels of a grey palette may differ


def decode(data: bytes, size: tuple[int, int]) -> Image.Image:
    """Decodes a mask: mode L, 255 on the figure, values between on soft edges.

    The figure is, in this order: what is opaque, where the file has transparency; all colours but
    the first of a palette with colours (label images); what is white, or 1 where there are only 0
    and 1.

    Args:
        data: of the file.
        size: (width, height) of the image that it belongs to.

    Raises:
        Unreadable: the file cannot be used, or is of another size.
    """

    def check_size(width: int, height: int) -> None:
        if max(width, height) != max(size) or min(width, height) != min(size):
            raise _other_size((width, height), size)

    mask = _grey(decoding.open_upright(data, check_size).image)
    if mask.size != size:
        raise _other_size(mask.size, size)
    if np.asarray(mask).max() == 1:
        return mask.point(lambda value: 255 * value)
    return mask


def check_content(mask: Image.Image) -> None:
    """Checks that a mask tells a figure from a background.

    Raises:
        Unreadable: all of it, or nothing, is figure.
    """
    values = np.asarray(mask)
    if values.max() <= THRESHOLD:
        raise Unreadable("the mask is empty", f"no pixel is over {THRESHOLD}")
    if values.min() > THRESHOLD:
        raise Unreadable("the mask is full", f"every pixel is over {THRESHOLD}")


def _other_size(found: tuple[int, int], size: tuple[int, int]) -> Unreadable:
    detail = f"{found[0]}x{found[1]}, the picture {size[0]}x{size[1]}"
    return Unreadable("the mask is of another size than the picture", detail)


def _grey(image: Image.Image) -> Image.Image:
    """Returns the figure of an upright mask of any mode, of mode L."""
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if np.asarray(alpha).min() < 255:
            return alpha
    if image.mode == "P":
        colours = np.array(image.getpalette("RGB"), int).reshape(-1, 3)
        labels = np.asarray(image)
        used = colours[np.unique(labels)]
        if np.ptp(used, axis=1).max() > GREY:
            return Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8))
    if image.mode == "F":
        raise Unreadable("the picture's pixels are floating point numbers")
    if image.mode.startswith("I"):  # 16 bits a pixel, or 8 that were stored so
        values = np.asarray(image)
        return decoding.eight_bits(values * 257 if values.max() <= 255 else values)
    if image.mode in ("RGBA", "RGBX", "LA"):
        image = image.convert("RGB")
    return image.convert("L")
