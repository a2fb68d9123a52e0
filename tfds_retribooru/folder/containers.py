"""Folders that only hold others: `images/` around characters or pictures, `train/` and `val/`."""

import pathlib
from collections.abc import Iterator

from tfds_retribooru.walking import subfolders

_PICTURES = ("images", "image", "imgs", "img", "pictures", "pics", "photos", "jpegimages")
_TRAIN = ("train", "training")
_SPLITS = (*_TRAIN, "val", "valid", "validation", "test", "testing")  # beside one of _TRAIN


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
