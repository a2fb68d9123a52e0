"""Folders that only hold others: `images/` around characters or pictures, `train/` and `val/`."""

import os
import pathlib
from collections.abc import Iterator

_PICTURES = ("images", "image", "imgs", "img", "pictures", "pics", "photos")
_TRAIN = ("train", "training")
_SPLITS = (*_TRAIN, "val", "valid", "validation", "test", "testing")  # beside one of _TRAIN


def subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders in a folder that are not hidden, in the order of their names."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return [folder / name for name in sorted(names)]


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


def without(path: pathlib.Path) -> pathlib.Path:
    """Returns a path without `images` and the like."""
    return pathlib.Path(*(part for part in path.parts if part.lower() not in _PICTURES))
