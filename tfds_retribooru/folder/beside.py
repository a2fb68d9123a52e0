"""Files that other tools lay beside an image: masks of its figure, pictures for other networks.

The mask of `a.jpg` is `a-masklabel.png` (OneTrainer), `a_mask.png`, `a-mask.png`, `a.mask.png`, or
`a.*` or `a.jpg.*` in a folder `masks` (or `mask`) beside it; endings in any case. Such a folder may
also lie beside a folder of images and hold folders of their names, without `images` and the like:
`masks/ann/a.png` for `ann/a.jpg` and `images/ann/a.jpg`. Or it holds files alone: then
`masks/a.png` is of the one picture below the folder around it that is called `a`.

A name is not enough: somebody may wear a mask, or be called Alpha. What is called so counts if it
looks like a mask, or is cut out of that very picture; of a folder, if most of it does. What is but
a bad mask counts too, so that the build says what is wrong with it.

Beside pictures, too, `mask_a.png`, `a_mask_0.png` (SAM, ComfyUI) or `a_matte.png` that looks like a
mask is no picture; as nothing says which of several such is right, it is no mask either.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from tfds_retribooru import formats, walking
from tfds_retribooru.folder import containers, looks, words
from tfds_retribooru.folder.words import stem_of

CONDITION = "-condlabel"  # after the stem, a picture that OneTrainer gives to a control network
_SURE = "-masklabel"  # OneTrainer's, which nobody else writes
_MASKS = (_SURE, "_mask", "-mask", ".mask")
_DEPTH = 4  # of the folders of pictures below one
_LOOKED_AT = 9  # files that tell whether a folder holds masks

Pictures = Mapping[str, pathlib.Path]  # by stem


def is_masks(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds masks: by its name, and by most of what is in it.

    If some are called as masks of images are, these tell, and else all. They look like masks, or
    are cut out of these images. Where the folder is called `masks`, and not only with such a word
    in its name (`sam_masks`), bad masks of images count as well.
    """
    is_called = is_called_masks(folder)
    if not is_called and not words.has_mask_word(folder.name):
        return False
    if not is_called and not _may_be_masks(folder):
        return False
    owned = _sample(sorted(_owned(folder).items()))
    if owned:
        count = sum(
            (not looks.is_picture(mask) if is_called else looks.is_likely(mask))
            or looks.is_of(mask, picture)
            for mask, picture in owned
        )
        return 2 * count > len(owned)
    return _look_like_masks(folder)


def _may_be_masks(folder: pathlib.Path) -> bool:
    """Returns whether some files could be masks: told before the folders around are read."""
    some = _sample(list(_images_below(folder)))
    return any(looks.is_likely(path) or looks.may_be_transparent(path) for path in some)


def _look_like_masks(folder: pathlib.Path) -> bool:
    some = _sample(list(_images_below(folder)))
    return 2 * sum(map(looks.is_likely, some)) > len(some)


def _sample(items: list) -> list:
    """Returns at most _LOOKED_AT of a list, from all over it."""
    return items[:: -(-len(items) // _LOOKED_AT)] if items else []


def is_called_masks(folder: pathlib.Path) -> bool:
    """Returns whether a folder is called like one of masks."""
    return folder.name.lower() in words.MASKS


def is_like_mask(path: pathlib.Path) -> bool:
    """Returns whether a file beside pictures has such a word in its name, and looks like a mask.

    A figure that is cut out (`ann_alpha.png`) does not: it is a picture.
    """
    return words.has_mask_word(stem_of(path.name)) and looks.is_likely_and_opaque(path)


def is_condition(path: pathlib.Path) -> bool:
    """Returns whether a file is named like a picture for a control network."""
    return path.stem.lower().endswith(CONDITION)


def belongs(path: pathlib.Path, pictures: Pictures) -> bool:
    """Returns whether a file is the mask or condition of one of the pictures in its folder."""
    stem = stem_of(path.name)
    if _owner(stem, (_SURE, CONDITION)) in pictures:
        return True
    picture = pictures.get(_owner(stem, _MASKS))
    return picture is not None and (not looks.is_picture(path) or looks.is_of(path, picture))


def by_stem(files: Iterable[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Returns files by the stems of their names; of those that share one, a picture."""
    ordered = sorted(files, key=lambda path: formats.has_known_extension(path.name))
    return {stem_of(path.name): path for path in ordered}


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
    return _of_folder(held, _unique(_image_folders(top, is_masks)))


def _unique(folders: Iterable[pathlib.Path]) -> Pictures:
    """Returns the pictures of folders whose stem is that of pictures in one folder alone."""
    found: dict[str, pathlib.Path] = {}
    several: set[str] = set()
    for folder in folders:
        pictures = by_stem(p for p in folder.iterdir() if formats.has_known_extension(p.name))
        several |= found.keys() & pictures.keys()
        found |= pictures
    return {stem: path for stem, path in found.items() if stem not in several}


def _owned(held: pathlib.Path) -> dict[pathlib.Path, pathlib.Path]:
    """Returns mask -> image of what is in a folder, if it holds masks: by names alone."""

    def is_other(folder: pathlib.Path) -> bool:
        has_word = words.has_mask_word(folder.name)
        return folder == held or is_called_masks(folder) or (has_word and _look_like_masks(folder))

    folders = list(_image_folders(held.parent, is_other))
    pairs = [(held, _unique(folders))]
    for folder in folders:
        for place in _places(held, folder.relative_to(held.parent)):
            if place.is_dir():
                pairs.append((place, by_stem(folder.iterdir())))
    found: dict[pathlib.Path, pathlib.Path] = {}
    for place, pictures in pairs:
        named = _of_folder(place, pictures, by_name=True)
        found |= {mask: pictures[stem] for stem, mask in named.items()}
    return found


def _image_folders(
    folder: pathlib.Path, is_other: Callable[[pathlib.Path], bool], depth: int = _DEPTH
) -> Iterator[pathlib.Path]:
    """Yields a folder and those below it, without the other ones: those of masks."""
    yield folder
    for inner in walking.subfolders(folder) if depth else ():
        if not is_other(inner):
            yield from _image_folders(inner, is_other, depth - 1)


def _images_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for place, names in walking.walk(folder):
        paths = (place / name for name in names if formats.has_image_extension(name))
        yield from filter(pathlib.Path.is_file, paths)


@functools.lru_cache(maxsize=4096)
def _called_masks(folder: pathlib.Path, changed: int) -> list[pathlib.Path]:
    del changed  # a changed folder is listed anew
    return [p for p in walking.subfolders(folder) if is_masks(p)]


@functools.lru_cache(maxsize=64)
def _masks(folders: tuple[pathlib.Path, ...], changed: tuple[int, ...]) -> dict[str, pathlib.Path]:
    """Returns stem -> mask of the images in the first folder; the others hold masks."""
    del changed  # a changed folder is listed anew
    files = sorted(folders[0].iterdir(), reverse=True)
    pictures = by_stem(files)
    found = {
        owner: path
        for path in files
        if (owner := _owner(stem_of(path.name), _MASKS)) in pictures
        and formats.has_image_extension(path.name)
        and belongs(path, pictures)
    }
    for folder in folders[1:]:
        found = _of_folder(folder, pictures) | found  # what was found before stays
    return {stem: path for stem, path in found.items() if path.is_file()}


def _of_folder(
    folder: pathlib.Path, pictures: Pictures, *, by_name: bool = False
) -> dict[str, pathlib.Path]:
    """Returns stem -> mask in a folder of masks.

    Args:
        folder: of masks.
        pictures: which they may be of.
        by_name: whether a figure counts, too, that is cut out of another picture. If not, some
            are looked at, and all where one of them is.
    """
    named = []
    for path in sorted(folder.iterdir()):
        if formats.has_image_extension(path.name):
            own = stem_of(path.name)
            inner = stem_of(own) if formats.has_known_extension(own) else ""
            stems = (own, inner, _owner(own, _MASKS))
            named += [(path, stem) for stem in stems if stem in pictures]
    found: dict[str, pathlib.Path] = {}
    is_sure = by_name or not any(looks.is_of_another(p, pictures[s]) for p, s in _sample(named))
    for path, stem in named:
        if is_sure or not looks.is_of_another(path, pictures[stem]):
            found.setdefault(stem, path)
    return found


def _owner(stem: str, marks: tuple[str, ...]) -> str:
    """Returns a stem without the mark at its end, "" if it has none."""
    return next((stem[: -len(m)] for m in marks if stem.lower().endswith(m)), "")
