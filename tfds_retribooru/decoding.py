"""Image files as upright sRGB pixels: for builders, collecting and references alike.

What Pillow can decode is converted: CMYK, palette, greyscale, 16 bits, EXIF orientation (turned
upright), embedded colour profiles (to sRGB), alpha (over white), animation (first frame). Metadata
never costs an image: where it is broken or too large it is ignored.
"""

import dataclasses
import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms, features

from tfds_retribooru import formats, image_metadata

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
WHITE = 255
UNREAD_FORMAT = "the picture is of a format that is not read"
SRGB_TOLERANCE = 3  # levels; a profile that moves no colour further is sRGB

_ORIENTATION = 0x0112  # EXIF tag
_SUBFILE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706  # TIFF tags
_PNG_DEPTH = 24  # place of the byte that says how many bits a channel has
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space -> Pillow's mode


class Unreadable(ValueError):
    """An image that cannot be used.

    The reasons are stored in manifests of data sets, so their words do not change.

    Attributes:
        reason: one of a few sentences, to count by.
        detail: of this image.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A decoded file.

    Attributes:
        image: upright, of mode RGB, without metadata; of `open_upright`, of any mode.
        is_plain: whether the file holds exactly these pixels as RGB JPEG or PNG, of 8 bits.
        profile: embedded colour profile that the pixels refer to, if any; of `open_upright` only.
    """

    image: Image.Image
    is_plain: bool
    profile: bytes | None = None


CheckSize = Callable[[int, int], None]  # takes width and height, raises what refuses them


def decode(data: bytes, check_size: CheckSize | None = None) -> Decoded:
    """Decodes a file to upright sRGB.

    Args:
        data: of the file.
        check_size: is called before pixels are decoded.

    Raises:
        Unreadable: the file cannot be used.
    """
    opened = open_upright(data, check_size)
    try:
        image, is_converted = _srgb(opened.image, opened.profile)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # such as AssertionError for a palette that is missing
        raise unreadable(error) from error
    image.info = {}  # Pillow would store comment and profile with the pixels
    return Decoded(image, opened.is_plain and not is_converted)


def open_upright(data: bytes, check_size: CheckSize | None = None) -> Decoded:
    """Decodes a file to upright pixels of the mode that it has; see `decode`.

    Raises:
        Unreadable: the file cannot be used.
    """
    if not data:
        raise Unreadable("the picture's file is empty")
    try:
        return _open_upright(data, None, check_size)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind for a broken file
        if name := formats.unread_format(data[:32]):
            detail = f"{name}: convert it to JPEG, PNG or WebP"
            raise Unreadable(UNREAD_FORMAT, detail) from error
        if (name := formats.optional_format(data[:32])) and not features.check(name):
            detail = f"{name.upper()}, which the installed Pillow lacks: pip install -U pillow"
            raise Unreadable(UNREAD_FORMAT, detail) from error
        bare, profile = image_metadata.strip(data)
        if bare == data:
            raise unreadable(error) from error
    try:
        opened = _open_upright(bare, profile, check_size)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:
        raise unreadable(error) from error
    return dataclasses.replace(opened, is_plain=False)


def _open_upright(data: bytes, profile: bytes | None, check_size: CheckSize | None) -> Decoded:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if check_size is not None:
        check_size(*image.size)
    profile = profile or image.info.get("icc_profile")
    # Pillow takes RGB of 16 bits for RGB too; others do not read the same pixels out of the file.
    is_deep = image.format == "PNG" and data[_PNG_DEPTH] > 8
    is_plain = image.format in ("JPEG", "PNG") and image.mode == "RGB" and not is_deep
    if image.format == "TIFF" and _is_raw(image):
        raise Unreadable(UNREAD_FORMAT, "camera RAW: convert it to JPEG, PNG or WebP")
    image.load()
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
        image = image.convert("RGB")  # old tools leave the fourth byte empty
    turned = _upright(image)
    is_plain = is_plain and turned is image and not image.has_transparency_data
    return Decoded(turned, is_plain, profile)


def _is_raw(image: Image.Image) -> bool:
    """Returns whether a TIFF begins with the small picture of a camera's RAW file."""
    tags = image.tag_v2  # pyrefly: ignore[missing-attribute]
    return _DNG_VERSION in tags or (bool(tags.get(_SUBFILE, 0) & 1) and _SUB_IFDS in tags)


def unreadable(error: Exception) -> Unreadable:
    """Returns what an error of Pillow's means."""
    if isinstance(error, Image.DecompressionBombError):
        return Unreadable("the picture has too many pixels", str(error))
    if isinstance(error, Image.UnidentifiedImageError):
        return Unreadable("the file is no picture of a known kind")
    return Unreadable("the picture does not decode", f"{type(error).__name__}: {error}")


def _upright(image: Image.Image) -> Image.Image:
    """Returns the image turned as EXIF says; as it is where EXIF says nothing that can be read.

    ImageOps.exif_transpose also writes the EXIF data again, which fails for broken ones.
    """
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF is no reason to reject the image
        return image
    return image if turn is None else image.transpose(turn)


def _srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """Returns an image of any mode as RGB over white, and whether a profile changed its colours.

    Raises:
        Unreadable: the pixels are floating point numbers, have more than 16 bits, or none is seen.
    """
    alpha = None
    if image.mode == "F":
        raise Unreadable("the picture's pixels are floating point numbers")
    if image.mode.startswith("I"):  # 16 bits a pixel, or 32 that hold 16 or 8
        grey = np.asarray(image)
        image = eight_bits(grey * 257 if image.mode == "I" and grey.max() <= 255 else grey)
    if image.has_transparency_data:
        is_grey = image.mode.upper() in ("L", "LA")
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if not alpha.getextrema()[1]:
            raise Unreadable("the picture is transparent everywhere")
        image = image.getchannel(0) if is_grey else image.convert("RGB")
    elif image.mode not in _PROFILE_MODES.values():
        image = image.convert("RGB")
    colours = None if profile is None else _apply_profile(image, profile)
    is_converted = colours is not None
    image = colours or (image if image.mode == "RGB" else image.convert("RGB"))  # without a copy
    if alpha is not None:
        image.putalpha(alpha)
        white = Image.new("RGBA", image.size, (WHITE,) * 4)
        image = Image.alpha_composite(white, image).convert("RGB")
    return image, is_converted


def eight_bits(grey: np.ndarray) -> Image.Image:
    """Returns 16-bit pixels, integers [H, W], as an image of mode L.

    Raises:
        Unreadable: they have more than 16 bits.
    """
    if grey.max() > 65535:
        raise Unreadable("the picture's pixels have more than 16 bits")
    return Image.fromarray(np.round(grey.astype(np.int64).clip(0) / 257).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Returns the image in sRGB; None if its profile is sRGB, broken or of another kind of image.

    Args:
        image: of one of the modes in _PROFILE_MODES.
        profile: an ICC profile.
    """
    try:
        mode, transform = _transform(profile)
        return transform.apply(image) if transform and mode == image.mode else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Returns the mode of a profile's images, and what converts them to sRGB.

    Raises:
        OSError, ImageCms.PyCMSError: the profile is broken.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = _PROFILE_MODES.get(source.profile.xcolor_space.strip(), "")
    if not mode:
        return mode, None
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return mode, None if mode != "CMYK" and _is_identity(transform, mode) else transform


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = np.arange(256, dtype=np.uint8)
    colours = levels[None]
    if mode == "RGB":  # all combinations of 9 levels, and all greys
        few = np.linspace(0, 255, 9).astype(np.uint8)
        cube = np.stack(np.meshgrid(few, few, few), axis=-1).reshape(-1, 3)
        colours = np.concatenate([cube, np.stack([levels] * 3, axis=-1)])[None]
    before = Image.fromarray(colours)
    after = np.asarray(transform.apply(before), int)
    return bool(np.abs(after - np.asarray(before.convert("RGB"), int)).max() <= SRGB_TOLERANCE)
