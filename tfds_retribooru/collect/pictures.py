"""The image files of a dump: where they are, and how they are opened."""

import itertools
import pathlib

from PIL import Image

from tfds_retribooru import pictures

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
    """Returns the picture as the builder `retribooru` decodes it: upright RGB.

    Raises:
      OSError: the builder could not use it (see `tfds_retribooru.pictures.decode`).
    """
    try:
        return pictures.decode(path.read_bytes())[1]
    except pictures.Unreadable as error:
        raise OSError(f"{path}: {error}") from error
