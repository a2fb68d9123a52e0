"""Files that other tools lay beside an image: masks of its figure, pictures for other networks.

The mask of `a.jpg` is `a-masklabel.png` (OneTrainer), `a_mask.png`, `a-mask.png`, `a.mask.png`, or
`a.*` in a folder `masks` (or `mask`) beside it; endings in any case. Such a folder may also lie
beside a folder of images and hold folders of their names: `masks/ann/a.png` for `ann/a.jpg`.
"""

import functools
import os
import pathlib
from collections.abc import Iterable

from tfds_retribooru import formats

CONDITION = "-condlabel"  # after the stem, a picture that OneTrainer gives to a control network
_MASKS = ("-masklabel", "_mask", "-mask", ".mask")
_FOLDERS = ("masks", "mask")


def is_masks(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds masks: by its name, and that of an image beside it.

    Beside it is also an image in a folder that has the name of one in it.
    """
    if folder.name.lower() not in _FOLDERS:
        return False
    for place, _, _ in os.walk(folder):
        images = folder.parent / pathlib.Path(place).relative_to(folder)
        if images.is_dir() and _of_folder(pathlib.Path(place), _stems(images)):
            return True
    return False


def is_condition(path: pathlib.Path) -> bool:
    """Returns whether a file is named like a picture for a control network."""
    return path.stem.lower().endswith(CONDITION)


def belongs(path: pathlib.Path, stems: Iterable[str]) -> bool:
    """Returns whether a file is the mask or condition of an image with one of these stems."""
    return _owner(path.stem, (*_MASKS, CONDITION)) in stems


def mask_of(image: pathlib.Path, root: pathlib.Path) -> pathlib.Path | None:
    """Returns the mask of an image below `root`, None if there is none; the nearest of several."""
    folder = image.parent
    above = [folder, *folder.parents][: 1 + len(folder.relative_to(root).parts)]
    tops = ((top, held) for top in above for held in _called_masks(top, top.stat().st_mtime_ns))
    places = (held / folder.relative_to(top) for top, held in tops)
    beside = [folder, *(place for place in places if place.is_dir())]
    times = tuple(path.stat().st_mtime_ns for path in beside)
    return _masks(tuple(beside), times).get(image.stem)


@functools.lru_cache(maxsize=4096)
def _called_masks(folder: pathlib.Path, changed: int) -> list[pathlib.Path]:
    del changed  # a changed folder is listed anew
    return sorted(p for p in folder.iterdir() if p.name.lower() in _FOLDERS and p.is_dir())


@functools.lru_cache(maxsize=64)
def _masks(folders: tuple[pathlib.Path, ...], changed: tuple[int, ...]) -> dict[str, pathlib.Path]:
    """Returns stem -> mask of the images in the first folder; the others hold masks."""
    del changed  # a changed folder is listed anew
    stems = _stems(folders[0])
    found = {
        owner: pathlib.Path(folders[0], name)
        for name in sorted(os.listdir(folders[0]), reverse=True)
        if (owner := _owner(os.path.splitext(name)[0], _MASKS)) in stems
        and formats.has_image_extension(name)
    }
    for folder in folders[1:]:
        found = _of_folder(folder, stems) | found  # what was found before stays
    return {stem: path for stem, path in found.items() if path.is_file()}


def _of_folder(folder: pathlib.Path, stems: set[str]) -> dict[str, pathlib.Path]:
    """Returns stem -> mask in a folder of masks."""
    found: dict[str, pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
        for stem in (path.stem, _owner(path.stem, _MASKS)):
            if stem in stems and formats.has_image_extension(path.name):
                found.setdefault(stem, path)
    return found


def _stems(folder: pathlib.Path) -> set[str]:
    return {os.path.splitext(name)[0] for name in os.listdir(folder)}


def _owner(stem: str, marks: tuple[str, ...]) -> str:
    """Returns a stem without the mark at its end, "" if it has none."""
    return next((stem[: -len(m)] for m in marks if stem.lower().endswith(m)), "")
