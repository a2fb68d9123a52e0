"""The image files of a dump: where they are, and how they are opened."""

import pathlib

from PIL import Image, ImageOps

MOST_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
_SUFFIXES = ("jpg", "png", "jpeg", "webp", "gif", "bmp", "avif")


def find(folder: pathlib.Path, name: int, ext: str = "") -> pathlib.Path | None:
    """Returns the file of a post, or None.

    Looks in the layouts of Danbooru20xx ({original,512px}/BUCKET/ID.EXT or BUCKET/ID.EXT, where
    BUCKET = ID mod 1000 in four digits) and in a flat folder. The 512px images are always jpg, so
    other suffixes are tried after the metadata's.
    """
    bucket = f"{name % 1000:04d}"
    places = [folder / "original" / bucket, folder / "512px" / bucket, folder / bucket, folder]
    suffixes = dict.fromkeys([ext, *_SUFFIXES] if ext else _SUFFIXES)
    for place in places:
        for suffix in suffixes:
            path = place / f"{name}.{suffix}"
            if path.is_file():
                return path
    return None


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
