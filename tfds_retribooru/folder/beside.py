"""Files that other tools lay beside an image: masks of its figure, pictures for other networks.

The mask of `a.jpg` is `a-masklabel.png` (OneTrainer), `a_mask.png`, `a-mask.png`, `a.mask.png`, or
`a.*` or `a.jpg.*` in a folder `masks` (or `mask`) beside it; endings in any case. Such a folder may
also lie beside a folder of images and hold folders of their names, without `images` and the like:
`masks/ann/a.png` for `ann/a.jpg` and `images/ann/a.jpg`. Or it holds files alone: then
`masks/a.png` is of the one picture below the folder around it that is called `a`.

Beside pictures, too, `mask_a.png`, `a_mask_0.png` (SAM, ComfyUI) or `a_matte.png` that looks like a
mask is no picture; as nothing says which of several such is right, it is no mask either.
"""

import functools
import itertools
import os
import pathlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from tfds_retribooru import formats, masks, walking
from tfds_retribooru.folder import containers

CONDITION = "-condlabel"  # after the stem, a picture that OneTrainer gives to a control network
_MASKS = ("-masklabel", "_mask", "-mask", ".mask")
_FOLDERS = ("masks", "mask")
_WORDS = frozenset(
    (*_FOLDERS, "seg", "segmentation", "segmentations", "matte", "mattes", "alpha", "gt")
)
_BETWEEN_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")  # SegmentationClass is two
_DEPTH = 4  # of the folders of pictures below one
_LOOKED_AT = 3  # pictures that tell whether a folder holds masks


def is_masks(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds masks: by its name, and by what is in it.

    These are masks if one is called as the mask of an image is, or if the first look like masks.
    Where the name is another with such a word (`sam_masks`), they have to look so.
    """
    if not is_called_masks(folder):
        return _is_like_masks(folder)
    for images in _image_folders(folder.parent):
        stems = _stems(images)
        places = {folder, *_places(folder, images.relative_to(folder.parent))}
        if any(_of_folder(place, stems) for place in places if place.is_dir()):
            return True
    return _look_like_masks(folder)


def _is_like_masks(folder: pathlib.Path) -> bool:
    return _has_word(folder.name) and _look_like_masks(folder)


def _has_word(name: str) -> bool:
    return not _WORDS.isdisjoint(word.lower() for word in _BETWEEN_WORDS.split(name))


def _look_like_masks(folder: pathlib.Path) -> bool:
    first = list(itertools.islice(_images_below(folder), _LOOKED_AT))
    return bool(first) and all(masks.is_likely(path.read_bytes()) for path in first)


def is_called_masks(folder: pathlib.Path) -> bool:
    """Returns whether a folder is called like one of masks."""
    return folder.name.lower() in _FOLDERS


def is_like_mask(path: pathlib.Path) -> bool:
    """Returns whether a file beside pictures has such a word in its name, and looks like a mask.

    A figure that is cut out (`ann_alpha.png`) does not: it is a picture.
    """
    if not _has_word(stem_of(path.name)):
        return False
    try:
        return masks.is_likely(path.read_bytes(), cut_outs=False)
    except OSError:  # a link that leads nowhere, or a file that may not be read: named as a picture
        return False


def is_condition(path: pathlib.Path) -> bool:
    """Returns whether a file is named like a picture for a control network."""
    return path.stem.lower().endswith(CONDITION)


def belongs(path: pathlib.Path, stems: Iterable[str]) -> bool:
    """Returns whether a file is the mask or condition of an image with one of these stems."""
    return _owner(stem_of(path.name), (*_MASKS, CONDITION)) in stems


def stem_of(name: str) -> str:
    """Returns a file's name without its ending, with composed letters: macOS takes them apart."""
    return unicodedata.normalize("NFC", os.path.splitext(name)[0])


def mask_of(image: pathlib.Path, root: pathlib.Path) -> pathlib.Path | None:
    """Returns the mask of an image below `root`, None if there is none; the nearest of several."""
    folder = image.parent
    above = [folder, *folder.parents][: 1 + len(folder.relative_to(root).parts)]
    tops = [(top, held) for top in above for held in _called_masks(top, top.stat().st_mtime_ns)]
    places = (place for top, held in tops for place in _places(held, folder.relative_to(top)))
    beside = [folder, *(place for place in places if place.is_dir())]
    times = tuple(path.stat().st_mtime_ns for path in beside)
    found = [_masks(tuple(beside), times), *(_alone(top, held) for top, held in tops)]
    stem = stem_of(image.name)
    return next((of[stem] for of in found if stem in of), None)


def forget() -> None:
    """Forgets which names pictures have, before folders are read that may have changed."""
    _alone.cache_clear()


def _places(held: pathlib.Path, relative: pathlib.Path) -> list[pathlib.Path]:
    """Returns where a folder of masks may hold those of the images in a folder beside it."""
    return list(dict.fromkeys([held / relative, held / containers.without(relative)]))


@functools.lru_cache(maxsize=64)
def _alone(top: pathlib.Path, held: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns stem -> mask in `held` of the images whose name no image of another folder has.

    Args:
        top: the folder of all these images.
        held: a folder of masks in it.
    """
    counts = Counter(
        stem for folder in _image_folders(top) for stem in set(map(stem_of, _image_names(folder)))
    )
    return _of_folder(held, {stem for stem, count in counts.items() if count == 1})


def _image_folders(folder: pathlib.Path, depth: int = _DEPTH) -> Iterator[pathlib.Path]:
    """Yields a folder and those below it, without those that are called like masks'."""
    yield folder
    for inner in walking.subfolders(folder) if depth else ():
        if not is_called_masks(inner) and not _is_like_masks(inner):
            yield from _image_folders(inner, depth - 1)


def _image_names(folder: pathlib.Path) -> list[str]:
    return [name for name in os.listdir(folder) if formats.has_known_extension(name)]


def _images_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for place, names in walking.walk(folder):
        paths = (place / name for name in names if formats.has_image_extension(name))
        yield from filter(pathlib.Path.is_file, paths)


@functools.lru_cache(maxsize=4096)
def _called_masks(folder: pathlib.Path, changed: int) -> list[pathlib.Path]:
    del changed  # a changed folder is listed anew
    return [p for p in walking.subfolders(folder) if is_called_masks(p) or _is_like_masks(p)]


@functools.lru_cache(maxsize=64)
def _masks(folders: tuple[pathlib.Path, ...], changed: tuple[int, ...]) -> dict[str, pathlib.Path]:
    """Returns stem -> mask of the images in the first folder; the others hold masks."""
    del changed  # a changed folder is listed anew
    stems = _stems(folders[0])
    found = {
        owner: pathlib.Path(folders[0], name)
        for name in sorted(os.listdir(folders[0]), reverse=True)
        if (owner := _owner(stem_of(name), _MASKS)) in stems and formats.has_image_extension(name)
    }
    for folder in folders[1:]:
        found = _of_folder(folder, stems) | found  # what was found before stays
    return {stem: path for stem, path in found.items() if path.is_file()}


def _of_folder(folder: pathlib.Path, stems: set[str]) -> dict[str, pathlib.Path]:
    """Returns stem -> mask in a folder of masks."""
    found: dict[str, pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
        if not formats.has_image_extension(path.name):
            continue
        own = stem_of(path.name)
        inner = stem_of(own) if formats.has_known_extension(own) else ""
        for stem in (own, inner, _owner(own, _MASKS)):
            if stem in stems:
                found.setdefault(stem, path)
    return found


def _stems(folder: pathlib.Path) -> set[str]:
    return set(map(stem_of, os.listdir(folder)))


def _owner(stem: str, marks: tuple[str, ...]) -> str:
    """Returns a stem without the mark at its end, "" if it has none."""
    return next((stem[: -len(m)] for m in marks if stem.lower().endswith(m)), "")
