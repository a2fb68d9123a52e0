"""What a file that is called like a mask looks like; see `masks`.

Of a file that cannot be read, nothing is so.
"""

import functools
import pathlib
from collections.abc import Callable

from PIL import Image

from tfds_retribooru import masks


def is_likely(path: pathlib.Path) -> bool:
    """Returns whether a file looks like a mask."""
    return _ask(masks.is_likely, path)


def is_likely_and_opaque(path: pathlib.Path) -> bool:
    """Returns whether a file looks like a mask, and not by its transparency."""
    return _ask(_is_likely_and_opaque, path)


def is_picture(path: pathlib.Path) -> bool:
    """Returns whether a file is rather a picture than a mask, even a bad one."""
    return _ask(masks.is_picture, path)


def is_of(path: pathlib.Path, picture: pathlib.Path) -> bool:
    """Returns whether a file shows a picture, or what is cut out of it."""
    return _ask(masks.is_of, path, picture)


def is_of_another(path: pathlib.Path, picture: pathlib.Path) -> bool:
    """Returns whether a file is a figure that is cut out of another picture."""
    is_cut_out = may_be_transparent(path) and _ask(masks.is_cut_out, path)
    return is_cut_out and not is_of(path, picture)


def _is_likely_and_opaque(data: bytes) -> bool:
    return masks.is_likely(data, cut_outs=False)


def may_be_transparent(path: pathlib.Path) -> bool:
    """Returns what the head of a file says: masks without transparency need not be decoded."""
    try:
        with Image.open(path) as image:
            return image.has_transparency_data
    except Exception:  # of any kind, for a broken file
        return False


def _ask(question: Callable[..., bool], *paths: pathlib.Path) -> bool:
    try:
        times = tuple(path.stat().st_mtime_ns for path in paths)
        return _answer(question, paths, times)
    except OSError:  # a link that leads nowhere, or a file that may not be read
        return False


@functools.lru_cache(maxsize=1 << 16)
def _answer(
    question: Callable[..., bool], paths: tuple[pathlib.Path, ...], changed: tuple[int, ...]
) -> bool:
    del changed  # a changed file is read anew
    return question(*(path.read_bytes() for path in paths))
