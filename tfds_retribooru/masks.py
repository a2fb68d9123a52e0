"""Mask files: what marks a figure in an image, however it was saved."""

import numpy as np
from PIL import Image

from tfds_retribooru import boxes, decoding
from tfds_retribooru.boxes import Box
from tfds_retribooru.decoding import Unreadable

THRESHOLD = boxes.FIGURE  # pixels above it belong to the figure
GREY = 8  # levels by which the channels of a grey may differ, and up to which a colour is black
FEW = 1 / 1000  # of the pixels: a smaller figure, or rest, is none
COLOURS = 4096  # at most, of labels with soft edges; more are a picture's
LABELS = 32  # likewise, of grey ones
LOOKED_AT = 256  # rows or columns, about, that tell of colours
SURE = 32  # levels from black, or from white, up to which a mask has no doubt
NEARLY_ALL, EDGE = 0.95, 0.98  # of all pixels, and of those at the left, top and right
BLOCK, SAME = 8, 16  # pixels, and levels by which the mean of as many may differ in one picture
FACE = 1 / 4  # of a face, the least that is figure
INVERTED = "the mask looks inverted: the figure has to be white, or opaque"
NO_FACE = "the mask leaves out the face: it is inverted, or of something else than the figure"


def decode(data: bytes, size: tuple[int, int]) -> Image.Image:
    """Decodes a mask: mode L, 255 on the figure, values between on soft edges.

    The figure is, in this order: what is opaque, where the file has transparency; all colours but
    the first of a palette with colours (label images); all but black, where there are colours; what
    is white, or 1 where there are only 0 and 1.

    Args:
        data: of the file.
        size: (width, height) of the image that it belongs to.

    Raises:
        Unreadable: the file cannot be used, or is of another size.
    """

    def check_size(width: int, height: int) -> None:
        if max(width, height) != max(size) or min(width, height) != min(size):
            raise _other_size((width, height), size)

    mask = _figure(decoding.open_upright(data, check_size).image)
    if mask.size != size:
        raise _other_size(mask.size, size)
    if np.asarray(mask).max() == 1:
        return mask.point(lambda value: 255 * value)
    return mask


def is_likely(data: bytes, *, cut_outs: bool = True) -> bool:
    """Returns whether a file is an image that looks like a mask: nearly all black or white.

    Args:
        data: of the file.
        cut_outs: whether that may be its transparency, where what is seen has one colour.
    """
    try:
        image = decoding.open_upright(data).image
        if _is_transparent(image):
            may_be = cut_outs and not _has_colours(image)
        else:
            may_be = not _is_photo(image)
        return may_be and _sure(image) >= NEARLY_ALL
    except Unreadable:
        return False


def is_picture(data: bytes) -> bool:
    """Returns whether a file that is called like a mask is rather a picture of its own.

    That is a figure that is cut out, or what has many colours; no file that cannot be read, no
    labels, and nothing grey, which may be a soft mask.
    """
    try:
        image = decoding.open_upright(data).image
        return _has_colours(image) if _is_transparent(image) else _is_photo(image)
    except Unreadable:
        return False


def is_cut_out(data: bytes) -> bool:
    """Returns whether a file is a figure in colours that is cut out."""
    try:
        image = decoding.open_upright(data).image
        return _is_transparent(image) and _has_colours(image)
    except Unreadable:
        return False


def is_of(data: bytes, picture: bytes) -> bool:
    """Returns whether a file shows a picture, or a part of it that is cut out.

    Its opaque blocks are compared in means, so that JPEG's noise tells nothing, but another mouth
    does.
    """
    try:
        cut, whole = (_visible(decoding.open_upright(file).image) for file in (data, picture))
    except Unreadable:
        return False
    if cut.size != whole.size:
        return False
    first, second = (np.asarray(image.reduce(BLOCK), int) for image in (cut, whole))
    opaque = first[..., 3] == 255
    different = np.abs(first - second)[opaque, :3] > SAME
    return bool(opaque.mean() >= FEW and not different.any())


def check_content(mask: Image.Image, face: Box | None = None) -> None:
    """Checks that a mask tells a figure from a background.

    Args:
        mask: of mode L.
        face: relative to it, if known.

    Raises:
        Unreadable: all of it, or nothing, is figure; or what is figure is rather the background.
    """
    values = np.asarray(mask)
    figure = values > THRESHOLD
    share = figure.mean()
    if share < FEW:
        raise Unreadable("the mask is empty", f"{figure.sum()} pixels are over {THRESHOLD}")
    if share > 1 - FEW:
        raise Unreadable("the mask is full", f"{(~figure).sum()} pixels are not over {THRESHOLD}")
    if np.count_nonzero(values) > 2 * figure.sum() and len(np.unique(values)) <= LABELS:
        if values.min() == 0:
            raise Unreadable("the mask has grey labels", "give white for the figure, else black")
    if face is None:
        edges = np.concatenate([figure[0], figure[:, 0], figure[:, -1]])
        if share < NEARLY_ALL and edges.mean() >= EDGE:
            raise Unreadable(INVERTED)
        return
    box = boxes.to_pixels(face, width=mask.width, height=mask.height)
    if figure[box.top : box.bottom, box.left : box.right].mean() < FACE:
        raise Unreadable(NO_FACE)


def _other_size(found: tuple[int, int], size: tuple[int, int]) -> Unreadable:
    detail = f"{found[0]}x{found[1]}, the picture {size[0]}x{size[1]}"
    return Unreadable("the mask is of another size than the picture", detail)


def _is_transparent(image: Image.Image) -> bool:
    return bool(np.asarray(_visible(image).getchannel("A")).min() < 255)


def _visible(image: Image.Image) -> Image.Image:
    """Returns an image of any mode as RGBA.

    Raises:
        Unreadable: it cannot be converted.
    """
    try:
        return image.convert("RGBA")
    except MemoryError:
        raise
    except Exception as error:
        raise decoding.unreadable(error) from error


def _has_colours(image: Image.Image) -> bool:
    """Returns whether what is seen of a transparent image has more than one colour."""
    pixels = _some_pixels(image)
    seen = pixels[pixels[..., 3] > THRESHOLD, :3].astype(int)
    if not len(seen):
        return False
    is_near = np.abs(seen - np.median(seen, axis=0)).max(axis=-1) <= SURE
    return bool(is_near.mean() < NEARLY_ALL)


def _has_labels(image: Image.Image) -> bool:
    """Returns whether nearly all of an opaque image is in a few colours, whichever they are."""
    pixels = _some_pixels(image)[..., :3]
    _, counts = np.unique(pixels.astype(np.uint32) @ (1, 1 << 8, 1 << 16), return_counts=True)
    return bool(np.sort(counts)[-LABELS:].sum() >= NEARLY_ALL * counts.sum())


def _is_photo(image: Image.Image) -> bool:
    """Returns whether an opaque image is in colours, and in more than a few."""
    pixels = _some_pixels(image)[..., :3]
    in_colours = (pixels.max(axis=-1) - pixels.min(axis=-1)).max() > GREY
    return bool(in_colours) and not _has_labels(image)


def _some_pixels(image: Image.Image) -> np.ndarray:
    """Returns about LOOKED_AT rows or columns, from all over an image, in RGBA."""
    step = 1 + min(image.size) // LOOKED_AT
    return np.asarray(_visible(image))[::step, ::step]


def _sure(image: Image.Image) -> float:
    """Returns the share of a mask's pixels that are nearly black or white; or 0 or 1.

    Raises:
        Unreadable: it cannot be used.
    """
    values = np.asarray(_figure(image))
    is_sure = (values <= SURE) | (values >= 255 - SURE) if values.max() > 1 else values <= 1
    return float(is_sure.mean())


def _figure(image: Image.Image) -> Image.Image:
    """Returns the figure of an upright mask of any mode, of mode L.

    Raises:
        Unreadable: it cannot be used.
    """
    try:
        return _grey(image)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # such as AssertionError for a palette that is missing
        raise decoding.unreadable(error) from error


def _grey(image: Image.Image) -> Image.Image:
    """Returns what `_figure` does, and raises any error of Pillow's."""
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if np.asarray(alpha).min() < 255:
            return alpha
    if image.mode == "P":
        labels = np.asarray(image)
        colours = np.zeros((256, 3), int)  # a file may hold those of the first labels alone
        given = np.array(image.getpalette("RGB"), int).reshape(-1, 3)
        colours[: len(given)] = given
        used = colours[np.unique(labels)]
        if np.ptp(used, axis=1).max() > GREY:
            return Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8))
    if image.mode == "F":
        raise Unreadable("the picture's pixels are floating point numbers")
    if image.mode.startswith("I"):  # 16 bits a pixel, or 8 that were stored so
        values = np.asarray(image)
        return decoding.eight_bits(values * 257 if values.max() <= 255 else values)
    if image.mode not in ("1", "L", "RGB"):  # such as P, CMYK, LAB
        image = image.convert("RGB")
    return _labels(np.asarray(image)) if image.mode == "RGB" else image.convert("L")


def _labels(pixels: np.ndarray) -> Image.Image:
    """Returns the figure of labels in colours, uint8 [H, W, 3]: all but black, as CVAT writes them.

    Raises:
        Unreadable: no colour is black, or there are as many as in a picture.
    """
    brightest = pixels.max(axis=-1)
    if (brightest - pixels.min(axis=-1)).max() <= GREY:
        return Image.fromarray(pixels).convert("L")
    if len(np.unique(pixels.astype(np.uint32) @ (1, 1 << 8, 1 << 16))) > COLOURS:
        raise Unreadable("the mask is a picture in colours")
    if brightest.min() > GREY:
        raise Unreadable("the mask has colours, and none of them is black")
    return Image.fromarray(np.where(brightest > GREY, 255, 0).astype(np.uint8))
