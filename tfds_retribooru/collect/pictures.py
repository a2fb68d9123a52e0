"""The image files of a dump: where they are, and how they are opened."""

import itertools
import pathlib

from PIL import Image, ImageOps

MOST_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
_FOLDERS = ("original", "512px", "")
_SUFFIXES = ("jpg", "png", "jpeg", "webp", "gif", "avif", "bmp", "tif", "tiff")


def find(folder: pathlib.Path, name: int, ext: str = "") -> pathlib.Path | None:
    """Returns the file of a post, or None.

    Looks for {original,512px,.}/[BUCKET/]ID.EXT, BUCKET = ID mod 1000 in four digits, in the order
    in which the builder `retribooru` looks, so that a box belongs to the picture that is built. The
    metadata's suffix is tried first; the 512px images are jpg whatever it says.
    """
    suffixes = dict.fromkeys([ext, *_SUFFIXES] if ext else _SUFFIXES)
    places = itertools.product(_FOLDERS, (f"{name % 1000:04d}", ""), suffixes)
    paths = (folder / part / bucket / f"{name}.{suffix}" for part, bucket, suffix in places)
    return next((path for path in paths if path.is_file()), None)


def read(path: pathlib.Path) -> Image.Image:
    """Returns the picture, first frame, upright, RGB; transparency over white.

    Raises:
      OSError: it cannot be decoded, is truncated or empty, or has more than MOST_PIXELS.
    """
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise OSError(f"{path}: {picture.width} x {picture.height} pixels are too many")
            picture.load()
            upright = ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise OSError(f"{path}: {error}") from error
    if "transparency" in upright.info or upright.mode in ("RGBA", "LA", "PA"):
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
    return upright.convert("RGB")
