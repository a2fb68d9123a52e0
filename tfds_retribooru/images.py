"""Image files as a data set stores them: upright sRGB, without letterbox, of a given size.

What would be guesswork or a danger is refused with an `Unreadable`: broken and truncated files, too
few pixels, decompression bombs. What is converted how: see `decoding`.
"""

import dataclasses
import hashlib
import io

import numpy as np
from PIL import Image

from tfds_retribooru import boxes, close_ups, decoding, masks, variants
from tfds_retribooru.boxes import Box, cut_box
from tfds_retribooru.close_ups import CloseUp
from tfds_retribooru.decoding import Unreadable

MIN_SIDE = 16  # pixels of the shorter side
MAX_SIDE = 16384  # pixels of the longer side
MAX_PIXELS = 100_000_000  # altogether (300 MB as RGB)
NO_CLOTHES = "the clothes cannot be told from the face: no reference for clothes"
OTHER_SIZE = "the box is in pixels of a picture of another shape: width and height are not its own"
SHAPE = 0.05  # share by which the ratio of width to height may differ
BLACK = 24  # the brightest value in the black bars of a letterbox (a JPEG's bars are not quite 0)

Frame = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom excluded


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """An image ready to be stored.

    Attributes:
        data: JPEG or PNG bytes of an RGB image.
        mask: PNG bytes of the figure, one channel, of the image's size; None if there is none.
        bbox: the face's box relative to the image; None if there is none.
        face, clothes: in more pixels than the image has; None where that would not pay.
        digest: images with one digest are stored as equal pixels.
        hash: perceptual; see `variants`.
        faults: (part, reason, detail) of a mask or box that does not fit the image.
    """

    data: bytes
    mask: bytes | None
    bbox: Box | None
    face: CloseUp | None
    clothes: CloseUp | None
    digest: bytes
    hash: bytes
    faults: tuple[tuple[str, str, str], ...]


def prepare(
    data: bytes,
    side: int | None,
    *,
    mask: bytes | None = None,
    bbox: Box | None = None,
    pixel_box: tuple[Box, str] | None = None,
    original: tuple[int, int] | None = None,
) -> PreparedImage:
    """Converts an image file to what is stored.

    Args:
        data: of the image's file.
        side: pixels of the shorter side at most (area resampling, never enlarged); None keeps the
            size, and the file as it is where that is an upright RGB JPEG or PNG.
        mask: of the mask's file; see `masks.decode`. It has the size of the image (upright,
            letterbox included).
        bbox: relative to the same.
        pixel_box: instead of it, a box in pixels of the original (of the file, where its size is
            not known) and which of boxes.FORMATS it has.
        original: (width, height) of the image before it was letterboxed, if known.

    Raises:
        Unreadable: the image cannot be used.
    """
    decoded = decoding.decode(data, _check_size)
    image = decoded.image
    frame = _letterbox(image, original)
    has_bars = frame != (0, 0, *image.size)
    full = image.crop(frame) if has_bars else image
    resized = shrink(full, side)
    faults = []
    moved = bbox
    if pixel_box is not None:
        moved, reason = _from_pixels(*pixel_box, original=original, size=image.size)
        if moved is None:
            detail = f"{pixel_box[0]}, sizes {original} and {image.size}"
            faults.append(("bbox", reason, detail))
    elif bbox is not None and has_bars:
        moved = _move(bbox, image.size, frame)
        if moved is None:
            reason = "the box is outside the picture without its letterbox"
            faults.append(("bbox", reason, str(bbox)))
    figure = None
    if mask is not None:
        try:
            figure = _mask(mask, moved, size=image.size, frame=frame, stored_size=resized.size)
        except Unreadable as error:
            faults.append(("mask", error.reason, error.detail))
    clothes = moved and _clothes(moved, figure, resized.size)
    if moved is not None and clothes is None:
        faults.append(("clothes", NO_CLOTHES, str(moved)))
    is_kept = decoded.is_plain and side is None and not has_bars
    stored = data if is_kept else _encode(resized, "PNG" if side is None else "JPEG")
    return PreparedImage(
        data=stored,
        mask=None if figure is None else _encode(figure, "PNG"),
        bbox=moved,
        face=moved and close_ups.cut(full, moved, resized.size),
        clothes=clothes and close_ups.cut(full, clothes, resized.size),
        digest=_digest_bytes(stored) if side else digest(np.asarray(resized)),
        hash=variants.perceptual_hash(resized),
        faults=tuple(faults),
    )


def decode(data: bytes) -> Image.Image:
    """Returns the upright sRGB image of a file; see `decoding.decode`.

    Raises:
        Unreadable: the file cannot be used.
    """
    return decoding.decode(data, _check_size).image


def shrink(image: Image.Image, side: int | None) -> Image.Image:
    """Returns the image with its shorter side at `side` pixels by area resampling, if larger."""
    if side is None or min(image.size) <= side:
        return image
    scale = side / min(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def digest(pixels: np.ndarray) -> bytes:
    """Returns 16 bytes that tell images apart by their pixels and shape, uint8 [H, W, C]."""
    found = hashlib.sha256(repr(pixels.shape).encode())
    found.update(np.ascontiguousarray(pixels).data)
    return found.digest()[:16]


def _digest_bytes(jpeg: bytes) -> bytes:
    """Returns 16 bytes that tell images apart which `_encode` made: equal pixels, equal bytes."""
    return hashlib.sha256(jpeg).digest()[:16]


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise Unreadable("the picture has too few pixels", f"{width}x{height}")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise Unreadable("the picture has too many pixels", f"{width}x{height}")


def _from_pixels(
    box: Box, form: str, *, original: tuple[int, int] | None, size: tuple[int, int]
) -> tuple[Box | None, str]:
    """Returns a box in pixels of the original as a relative one; or None, and why."""
    if not _is_of(original, size):
        return None, OTHER_SIZE
    found = boxes.from_pixels(box, original or size, form)
    return found, f"the box in pixels ({form}) is not inside the picture"


def _is_of(original: tuple[int, int] | None, size: tuple[int, int]) -> bool:
    """Whether a picture, unless it is square, has the shape of its original, if that is known."""
    if original is None or size[0] == size[1]:
        return True
    ratio = original[0] * size[1] / (original[1] * size[0])
    return max(ratio, 1 / ratio) < 1 + SHAPE


def _letterbox(image: Image.Image, original: tuple[int, int] | None) -> Frame:
    """Returns the frame of the image inside black bars; all of it if there are none.

    As the 512px folders of Danbooru20xx were made: shrunk (never enlarged) to fit a square,
    centred. Bars that are not black are no letterbox.
    """
    side, height = image.size
    everything = (0, 0, side, height)
    if original is None or side != height or original[0] == original[1]:
        return everything
    scale = min(1, side / max(original))
    w, h = (min(side, max(1, round(n * scale))) for n in original)
    left, top = (side - w) // 2, (side - h) // 2
    frame = (left, top, left + w, top + h)
    pixels = np.asarray(image)
    bars = pixels[:top], pixels[top + h :], pixels[:, :left], pixels[:, left + w :]
    is_black = all(bar.max(initial=0) <= BLACK for bar in bars)
    return frame if is_black and min(w, h) >= MIN_SIDE else everything


def _move(bbox: Box, size: tuple[int, int], frame: Frame) -> Box | None:
    """Returns a box relative to an image as relative to a frame of it; None if it is outside."""
    (x, y, w, h), (left, top, right, bottom) = bbox, frame
    x, y = (x * size[0] - left) / (right - left), (y * size[1] - top) / (bottom - top)
    return cut_box((x, y, w * size[0] / (right - left), h * size[1] / (bottom - top)))


def _mask(
    data: bytes,
    face: Box | None,
    *,
    size: tuple[int, int],
    frame: Frame,
    stored_size: tuple[int, int],
) -> Image.Image:
    """Returns the mask of an image of `size`, of mode L, as it is stored; `face` is in `frame`."""
    mask = masks.decode(data, size)
    if frame != (0, 0, *size):
        mask = mask.crop(frame)
    masks.check_content(mask, face)
    return mask.resize(stored_size, Image.Resampling.BOX)


def _clothes(bbox: Box, figure: Image.Image | None, size: tuple[int, int]) -> Box | None:
    """Returns the box of the clothes below a face; None if the picture can show none of them."""
    mask = None if figure is None else np.asarray(figure)
    width, height = size
    found = boxes.clothes_box(bbox, mask, width=width, height=height)
    return found and boxes.to_relative(found, width=width, height=height)


def _encode(image: Image.Image, kind: str) -> bytes:
    """Encodes as JPEG, or as PNG, which loses nothing."""
    if kind == "JPEG":
        return close_ups.encode_jpeg(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, compress_level=6)
    return buffer.getvalue()


def black_pixel(mode: str = "L") -> bytes:
    """Returns one black pixel that stands for "none": PNG of one channel, or JPEG of "RGB"."""
    return _encode(Image.new(mode, (1, 1)), "PNG" if mode == "L" else "JPEG")
