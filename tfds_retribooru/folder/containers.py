"""Folders that only hold others: `images/` around characters or pictures, `train/` and `val/`.

And kohya's `reg/` beside them, whose pictures are of anybody.
"""

import pathlib
import re
from collections.abc import Iterator

from tfds_retribooru.walking import subfolders

_PICTURES = ("images", "image", "imgs", "img", "pictures", "pics", "photos", "jpegimages")
_TRAIN = ("train", "training")
_SPLITS = (*_TRAIN, "val", "valid", "validation", "test", "testing")  # beside one of _TRAIN
_REGULARISATION = ("reg", "regs", "reg_images", "regularization", "regularisation")
_REPEATED = re.compile(r"\d+_.+")  # kohya's 1_girl


def below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a folder and the containers in it, also those in containers."""
    yield folder
    for container in containers(folder):
        yield from below(container)


def containers(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders in a folder that are no character and no outfit."""
    found = subfolders(folder)
    names = {p.name.lower() for p in found}
    has_splits = not names.isdisjoint(_TRAIN)
    return [
        p
        for p in found
        if p.name.lower() in _PICTURES or (has_splits and p.name.lower() in _SPLITS)
    ]


def is_regularisation(folder: pathlib.Path) -> bool:
    """Whether a folder is one of kohya's pictures that are of the class, and of no character.

    It is called so, and stands beside a folder of pictures, or all folders in it are called 1_girl.
    """
    if folder.name.lower() not in _REGULARISATION:
        return False
    names = [p.name for p in subfolders(folder)]
    is_repeated = bool(names) and all(map(_REPEATED.fullmatch, names))
    return is_repeated or any(p.name.lower() in _PICTURES for p in subfolders(folder.parent))


def without(path: pathlib.Path) -> pathlib.Path:
    """Returns a path without `images` and the like."""
    return pathlib.Path(*(part for part in path.parts if part.lower() not in _PICTURES))
