"""Folders that only hold others: `images/` around characters or pictures, `train/` and `val/`.

And kohya's `reg/` beside them, whose pictures are of anybody.
"""

import pathlib
import re
from collections.abc import Iterator

from tfds_retribooru import formats, walking
from tfds_retribooru.folder import words
from tfds_retribooru.walking import subfolders

_PICTURES = ("images", "image", "imgs", "img", "pictures", "pics", "photos", "jpegimages")
_TRAIN = ("train", "training")
_HELD_OUT = ("val", "valid", "validation", "test", "testing")
_REGULARISATION = ("reg", "regs", "reg_images", "regularization", "regularisation")
_REPEATED = re.compile(r"\d+_(.+)")  # kohya's 1_girl


def below(folder: pathlib.Path, *, of_one: bool = False) -> Iterator[pathlib.Path]:
    """Yields a folder and the containers in it, also those in containers.

    Args:
        folder: around characters, or of one.
        of_one: whether it is of one: there, `training` and `test` may be outfits.
    """
    yield folder
    for container in containers(folder, of_one=of_one):
        yield from below(container, of_one=of_one)


def containers(folder: pathlib.Path, *, of_one: bool = False) -> list[pathlib.Path]:
    """Returns the folders in a folder that are no character and no outfit; see `below`."""
    found = subfolders(folder)
    splits = _splits(found, of_one=of_one)
    return [p for p in found if p.name.lower() in _PICTURES or p in splits]


def _splits(found: list[pathlib.Path], *, of_one: bool) -> list[pathlib.Path]:
    """Returns which of the folders in one are `train`, `val` and the like."""
    splits = [p for p in found if p.name.lower() in (*_TRAIN, *_HELD_OUT)]
    called = {p.name.lower() for p in splits}
    if called.isdisjoint(_TRAIN):
        return []
    if not called.isdisjoint(_HELD_OUT):
        return splits
    if of_one:
        return []
    # sports wear, or a character; but not if nobody stands beside it, or several are in it
    holds_several = all(len(subfolders(p)) > 1 and not _holds_pictures(p) for p in splits)
    is_split = "train" in called or holds_several or not any(map(_is_character, found))
    return splits if is_split else []


def _holds_pictures(folder: pathlib.Path) -> bool:
    return any(formats.has_known_extension(path.name) for path in folder.iterdir())


def _is_character(folder: pathlib.Path) -> bool:
    """Returns whether a folder beside `training` holds pictures of somebody."""
    name = folder.name.lower()
    if name in (*_PICTURES, *_TRAIN) or words.has_mask_word(folder.name):
        return False
    files = (file for _, inner in walking.walk(folder) for file in inner)
    return any(map(formats.has_known_extension, files)) and not is_regularisation(folder)


def is_regularisation(folder: pathlib.Path) -> bool:
    """Whether a folder is one of kohya's pictures that are of the class, and of no character.

    It is called so, and stands beside a folder of pictures, or all folders in it are called 1_girl.
    """
    if folder.name.lower() not in _REGULARISATION:
        return False
    found = [_REPEATED.fullmatch(p.name) for p in subfolders(folder)]
    is_of_class = bool(found) and all(m and words.ends_in_class(m[1]) for m in found)
    return is_of_class or any(p.name.lower() in _PICTURES for p in subfolders(folder.parent))


def without(path: pathlib.Path) -> pathlib.Path:
    """Returns a path without `images` and the like."""
    return pathlib.Path(*(part for part in path.parts if part.lower() not in _PICTURES))
