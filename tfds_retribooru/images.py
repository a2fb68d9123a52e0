"""Picture files as a data set stores them: upright RGB, without letterbox, of a wanted size.

What Pillow can decode is converted: CMYK, palette, greyscale, 16 bits, EXIF rotation (turned
upright), alpha (over white), animation (first frame). What would be guesswork or a danger is
refused with an `Unreadable`: broken and truncated files, too few pixels, decompression bombs.
"""

import dataclasses
import hashlib
import io

import numpy as np
from PIL import Image, ImageOps

from tfds_retribooru.boxes import Box, cut_box

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
EXTENSIONS = ("jpg", "png", "jpeg", "webp", "gif", "avif", "bmp", "tif", "tiff")  # of FORMATS
SMALLEST = 16  # pixels of the shorter side
LONGEST = 16384  # pixels of the longer side
MOST = 100_000_000  # pixels altogether (300 MB as RGB)
QUALITY = 95  # of the JPEG that is stored, with full colour resolution
BLACK = 24  # the brightest value in the black bars of a letterbox (a JPEG's bars are not quite 0)


class Unreadable(ValueError):
    """A picture that cannot be used: `reason` is one of a few sentences, `detail` of this one."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture ready to be stored.

    Attributes:
        image: JPEG or PNG bytes of an RGB picture.
        mask: PNG bytes of the figure, one channel, of the picture's size; None if there is none.
        bbox: the face's box relative to `image`; None if there is none.
        digest: of the pixels of `image` before it was encoded: two pictures with one are one.
        lost: (part, reason, detail) of what did not fit the picture.
    """

    image: bytes
    mask: bytes | None
    bbox: Box | None
    digest: bytes
    lost: tuple[tuple[str, str, str], ...]


def prepare(
    data: bytes,
    mask: bytes | None,
    bbox: Box | None,
    original: tuple[int, int] | None,
    side: int | None,
) -> Picture:
    """Makes a file's bytes into what is stored.

    Args:
        data: of the picture's file.
        mask: of the mask's file; it has the size of the picture (upright, letterbox included).
        bbox: relative to the same.
        original: (width, height) of the picture before it was letterboxed, if known.
        side: pixels of the shorter side at most (area resampling, never enlarged); None keeps the
            size, and the file as it is where that is an upright RGB JPEG or PNG.

    Raises:
        Unreadable: the picture cannot be used.
    """
    decoded, image = decode(data)
    frame = _letterbox(image, original)
    whole = (0, 0, *image.size)
    shown = shrink(image if frame == whole else image.crop(frame), side)
    lost = []
    small_mask = None
    if mask is not None:
        try:
            small_mask = _encode(_mask(mask, image.size, frame, shown.size), "PNG")
        except Unreadable as error:
            lost.append(("mask", error.reason, error.detail))
    moved = bbox if frame == whole else _move(bbox, image.size, frame)
    if bbox is not None and moved is None:
        lost.append(("bbox", "the box is outside the picture without its letterbox", str(bbox)))
    return Picture(
        image=data if side is None and shown is image and decoded else _store(shown, side),
        mask=small_mask,
        bbox=moved,
        digest=digest(np.asarray(shown)),
        lost=tuple(lost),
    )


def decode(data: bytes) -> tuple[bool, Image.Image]:
    """(whether the file holds exactly these RGB pixels as JPEG or PNG; the picture, upright RGB).

    Raises:
        Unreadable: the file cannot be used.
    """
    if not data:
        raise Unreadable("the picture's file is empty")
    try:
        image = _open(data)
        plain = image.format in ("JPEG", "PNG") and image.mode == "RGB"
        image.load()
        turned = upright(image)
        plain = plain and turned is image and not image.has_transparency_data
        return plain, rgb(turned)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind for a broken file
        raise Unreadable("the picture does not decode", f"{type(error).__name__}: {error}") from (
            error
        )


def shrink(image: Image.Image, side: int | None) -> Image.Image:
    """The picture with its shorter side at `side` pixels by area resampling, if it is larger."""
    if side is None or min(image.size) <= side:
        return image
    scale = side / min(image.size)
    return image.resize(tuple(max(1, round(n * scale)) for n in image.size), Image.Resampling.BOX)


def digest(pixels: np.ndarray) -> bytes:
    """Sixteen bytes that tell pictures apart by their pixels and shape, uint8 [H, W, C]."""
    found = hashlib.sha256(repr(pixels.shape).encode())
    found.update(np.ascontiguousarray(pixels))
    return found.digest()[:16]


def _open(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Unreadable("the picture has too many pixels", str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable("the file is no picture of a known kind") from error
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise Unreadable("the picture has too few pixels", f"{width}x{height}")
    if max(width, height) > LONGEST or width * height > MOST:
        raise Unreadable("the picture has too many pixels", f"{width}x{height}")
    return image


def upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; as it is where EXIF says nothing that can be read."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # broken EXIF is no reason to lose the picture
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def rgb(image: Image.Image, background: int = 255) -> Image.Image:
    """Any mode -> RGB, transparency over white or another grey."""
    if image.mode == "F":
        raise Unreadable("the picture's pixels are floating point numbers")
    if image.mode.startswith("I"):  # 16 bits a pixel
        grey = np.asarray(image).astype(np.int64)
        if grey.max() > 65535:
            raise Unreadable("the picture's pixels have more than 16 bits")
        return Image.fromarray(np.round(grey.clip(0) / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        grey = Image.new("RGBA", image.size, (background,) * 3 + (255,))
        return Image.alpha_composite(grey, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _letterbox(image: Image.Image, original: tuple[int, int] | None) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the picture inside black bars; the whole if there are none.

    As the 512px folders of Danbooru20xx were made: shrunk (never enlarged) to fit a square,
    centred. Bars that are not black are no letterbox.
    """
    side, height = image.size
    whole = (0, 0, side, height)
    if original is None or side != height or original[0] == original[1]:
        return whole
    scale = min(1, side / max(original))
    w, h = (min(side, max(1, round(n * scale))) for n in original)
    left, top = (side - w) // 2, (side - h) // 2
    frame = (left, top, left + w, top + h)
    pixels = np.asarray(image)
    bars = pixels[:top], pixels[top + h :], pixels[:, :left], pixels[:, left + w :]
    is_black = all(bar.max(initial=0) <= BLACK for bar in bars)
    return frame if is_black and min(w, h) >= SMALLEST else whole


def _move(bbox: Box | None, size: tuple[int, int], frame: tuple[int, ...]) -> Box | None:
    """A box relative to a picture -> relative to a frame of it; None if it is outside."""
    if bbox is None:
        return None
    (x, y, w, h), (left, top, right, bottom) = bbox, frame
    x, y = (x * size[0] - left) / (right - left), (y * size[1] - top) / (bottom - top)
    return cut_box((x, y, w * size[0] / (right - left), h * size[1] / (bottom - top)))


def _mask(data: bytes, size, frame, shown) -> Image.Image:
    """A mask's file -> mode L, of the stored picture's size."""
    mask = decode(data)[1]
    if mask.size != size:
        detail = f"{mask.size[0]}x{mask.size[1]}, the picture {size[0]}x{size[1]}"
        raise Unreadable("the mask is of another size than the picture", detail)
    return mask.convert("L").crop(frame).resize(shown, Image.Resampling.BOX)


def _store(image: Image.Image, side: int | None) -> bytes:
    """JPEG for resized pictures; PNG, which loses nothing, where the size was to be kept."""
    return _encode(image, "PNG" if side is None else "JPEG")


def _encode(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": QUALITY, "subsampling": 0} if kind == "JPEG" else {"compress_level": 6}
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def black_pixel() -> bytes:
    """A PNG of one black pixel, one channel: what stands for "no mask"."""
    return _encode(Image.new("L", (1, 1)), "PNG")
