"""Image files as a data set stores them: upright sRGB, without letterbox, of a given size.

What would be guesswork or a danger is refused with an `Unreadable`: broken and truncated files, too
few pixels, decompression bombs. What is converted how: see `decoding`.
"""

import dataclasses
import hashlib
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfds_retribooru import boxes, decoding, masks, variants
from tfds_retribooru.boxes import Box, clothes_box, cut_box
from tfds_retribooru.decoding import Unreadable

MIN_SIDE = 16  # pixels of the shorter side
MAX_SIDE = 16384  # pixels of the longer side
MAX_PIXELS = 100_000_000  # altogether (300 MB as RGB)
JPEG_QUALITY = 95  # of what is stored, with full colour resolution
FACE_SIDE = 384  # pixels of a face's longer side that are kept at most: as large as it is shown
FACE_MARGIN = 0.15  # of a face's width and height, kept around it, so that its edges may move
FACE_GAIN = 1.25  # a face is kept if it has so many times the pixels (of a side) of the image's
NO_CLOTHES = "the clothes cannot be told from the face: no reference for clothes"
BLACK = 24  # the brightest value in the black bars of a letterbox (a JPEG's bars are not quite 0)

Frame = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom excluded


class FaceCrop(NamedTuple):
    """A face and what is around it, before the image was shrunk.

    Attributes:
        data: JPEG bytes of an RGB image.
        frame: what of the image it shows.
    """

    data: bytes
    frame: Box


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """An image ready to be stored.

    Attributes:
        data: JPEG or PNG bytes of an RGB image.
        mask: PNG bytes of the figure, one channel, of the image's size; None if there is none.
        bbox: the face's box relative to the image; None if there is none.
        face: the face in more pixels than the image has; None where that would not pay.
        digest: images with one digest are stored as equal pixels.
        hash: perceptual; see `variants`.
        faults: (part, reason, detail) of a mask or box that does not fit the image.
    """

    data: bytes
    mask: bytes | None
    bbox: Box | None
    face: FaceCrop | None
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
    figure = None
    if mask is not None:
        try:
            figure = _mask(mask, image.size, frame, resized.size)
        except Unreadable as error:
            faults.append(("mask", error.reason, error.detail))
    moved = bbox
    if pixel_box is not None:
        moved = boxes.from_pixels(pixel_box[0], original or image.size, pixel_box[1])
        if moved is None:
            reason = f"the box in pixels ({pixel_box[1]}) is not inside the picture"
            faults.append(("bbox", reason, str(pixel_box[0])))
    elif bbox is not None and has_bars:
        moved = _move(bbox, image.size, frame)
        if moved is None:
            reason = "the box is outside the picture without its letterbox"
            faults.append(("bbox", reason, str(bbox)))
    if moved is not None and not _shows_clothes(moved, figure, resized.size):
        faults.append(("clothes", NO_CLOTHES, str(moved)))
    is_kept = decoded.is_plain and side is None and not has_bars
    stored = data if is_kept else _encode(resized, "PNG" if side is None else "JPEG")
    return PreparedImage(
        data=stored,
        mask=None if figure is None else _encode(figure, "PNG"),
        bbox=moved,
        face=None if moved is None else face_crop(full, moved, resized.size),
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


def face_crop(image: Image.Image, bbox: Box, stored: tuple[int, int]) -> FaceCrop | None:
    """Returns the face of an image that is stored smaller, with FACE_MARGIN around it.

    Args:
        image: before it was shrunk.
        bbox: of the face.
        stored: (width, height) of the image as it is stored.

    Returns:
        Its longer side is FACE_SIDE at most. None where the stored image has that many pixels of
        the face, or nearly as many as the file has.
    """
    there, possible = (max(bbox[2] * size[0], bbox[3] * size[1]) for size in (stored, image.size))
    possible = min(possible, FACE_SIDE)
    if possible < FACE_GAIN * there:
        return None
    x, y, w, h = bbox
    wide = (x, y, w * (1 + 2 * FACE_MARGIN), h * (1 + 2 * FACE_MARGIN))
    cut = boxes.to_pixels(wide, width=image.width, height=image.height)
    part = image.crop(cut)
    scale = possible / max(w * image.width, h * image.height)
    if scale < 1:
        size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
        part = part.resize(size, Image.Resampling.BOX)
    edges = cut.left / image.width, cut.top / image.height
    width, height = (cut.right - cut.left) / image.width, (cut.bottom - cut.top) / image.height
    frame = (edges[0] + width / 2, edges[1] + height / 2, width, height)
    return FaceCrop(_encode(part, "JPEG"), frame)


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
    data: bytes, size: tuple[int, int], frame: Frame, stored_size: tuple[int, int]
) -> Image.Image:
    """Returns the mask of an image of `size`, of mode L, as it is stored."""
    mask = masks.decode(data, size)
    if frame != (0, 0, *size):
        mask = mask.crop(frame)
    masks.check_content(mask)
    return mask.resize(stored_size, Image.Resampling.BOX)


def _shows_clothes(bbox: Box, figure: Image.Image | None, size: tuple[int, int]) -> bool:
    """Returns whether a picture of a face shows clothes too: whether it can be their reference."""
    mask = None if figure is None else np.asarray(figure)
    return clothes_box(bbox, mask, width=size[0], height=size[1]) is not None


def _encode(image: Image.Image, kind: str) -> bytes:
    """Encodes as JPEG, or as PNG, which loses nothing."""
    buffer = io.BytesIO()
    if kind == "JPEG":
        image.save(buffer, kind, quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(buffer, kind, compress_level=6)
    return buffer.getvalue()


def black_pixel(mode: str = "L") -> bytes:
    """Returns one black pixel that stands for "none": PNG of one channel, or JPEG of "RGB"."""
    return _encode(Image.new(mode, (1, 1)), "PNG" if mode == "L" else "JPEG")
