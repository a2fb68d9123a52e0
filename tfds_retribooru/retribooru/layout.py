"""Where a record's image and mask lie, in the layouts of Danbooru20xx or flat.

images/{original,512px}/BUCKET/ID.EXT, images/BUCKET/ID.EXT or images/ID.EXT, where BUCKET is ID mod
1000 in four digits; masks/ID.png. Where none is there, a file in any folder below images/ counts:
one that gallery-dl named, SITE_ID_NAME.EXT; that a site named, `yande.re ID TAGS.EXT` or
`Konachan.com - ID TAGS.EXT`; whose name ends with the MD5 of the record; or ID.EXT, if there is one
alone. Zeros may stand before an id (00123.png). An original is preferred to its 512px version, and
to samples; then the MD5 counts more than the id, which is another picture's on another site.
Endings may also be in upper case, or any others where the file's content is an image. Ids are plain
file names (tfds_retribooru/building/records.py), so nothing outside the folder is ever read.
"""

import functools
import itertools
import os
import pathlib
import re
import urllib.parse
from collections.abc import Iterator

from tfds_retribooru import formats, walking
from tfds_retribooru.building import annotations
from tfds_retribooru.building.records import Fault, Record

_GALLERY = re.compile(  # such as danbooru_123_0ab1.jpg; a number behind a common word is no id
    r"(?!(?:copy|download|dsc|output|page|result|scan|screen|screenshot|unnamed|untitled)s?_)"
    r"[a-z][a-z0-9]*_(\d+)(?:_.*)?\.\w+"
)
_SITE = re.compile(  # such as "yande.re 123 sample dress.jpg" or "Konachan.com - 123 dress.png"
    r"(?:[a-z][\w-]*\.[a-z]{2,5}|[a-z]+booru)(?: -)? (\d+)(?: .*)?\.\w+", re.IGNORECASE
)
_REDUCED = re.compile(r"(?:^|[^a-z])(?:sample|preview|thumb|thumbnail|512px)s?(?:[^a-z]|$)")
_MD5 = re.compile(r"(?:.*[^0-9a-f])?([0-9a-f]{32})\.\w+", re.IGNORECASE)
FOLDERS = ("original", "512px", "")
MASKS = "masks"
NO_PICTURE = "the mask is no picture, and is not read"
NO_RECORD = "the mask is of no record: masks are called by the record's id, as ID.png"


def read(root: pathlib.Path) -> Iterator[Record | Fault]:
    """Yields records and faults of the annotations, then the masks of no record as faults."""
    ids = set()
    for item in annotations.read(annotations.files(root / "annotations")):
        if isinstance(item, Record):
            ids.update(_names(item))
        yield item
    for name in sorted(os.listdir(root / MASKS)) if (root / MASKS).is_dir() else ():
        if name.startswith("."):
            continue
        reason = ""
        if ids.isdisjoint((name, *_stems(name))):
            reason = NO_RECORD
        elif not formats.has_known_extension(name) and not formats.is_image(root / MASKS / name):
            reason = NO_PICTURE
        if reason:
            yield Fault("", reason, file=f"{MASKS}/{ascii(name)[1:-1]}", part="place")


def locate(root: pathlib.Path, record: Record) -> tuple[pathlib.Path | None, pathlib.Path | None]:
    """Returns the paths of a record's image and mask under `root`; None where there is no file."""
    names, endings = _names(record), ("png", *formats.EXTENSIONS)
    images = (find_image(root / "images", n, record.extension, record.md5) for n in names)
    masks = (_find(os.path.join(root, MASKS), n, endings) for n in names)
    return next(filter(None, images), None), next(filter(None, masks), None)


def _names(record: Record) -> list[str]:
    """Returns a record's id, and it without a picture's ending, which some write behind it."""
    stem = record.id.rpartition(".")[0]
    return [record.id, stem] if stem and formats.has_known_extension(record.id) else [record.id]


def find_image(
    images: pathlib.Path, name: str, extension: str = "", md5: str = ""
) -> pathlib.Path | None:
    """Returns the image of an id, or None; the ending that the metadata says is tried first."""
    endings = dict.fromkeys([extension, *formats.EXTENSIONS] if extension else formats.EXTENSIONS)
    buckets = _buckets(name)
    for place in itertools.product(FOLDERS, buckets):
        found = _find(os.path.join(images, *place), name, tuple(endings))
        if found is not None:
            return found
    try:
        gallery = _gallery(images, os.stat(images).st_mtime_ns)
    except OSError:  # no such folder
        return None
    by_id = gallery.get(name, "")
    said = _MD5.fullmatch(by_id.rpartition("/")[2])
    if md5 and said and said[1].lower() != md5:  # another site's picture with that id
        by_id = ""
    named = filter(None, (gallery.get(md5), by_id))
    found = min(named, key=_is_reduced, default=None)  # the first of equals
    return images / found if found else None


@functools.lru_cache(maxsize=4)
def _gallery(images: pathlib.Path, changed: int) -> dict[str, str]:
    """Returns id or MD5 -> path below `images` of those named by these, in any folder.

    The first that is not reduced counts; of several that are called by the id alone, none: "".
    """
    del changed  # a changed folder is listed anew
    found: dict[str, str] = {}
    for reduced in (False, True):
        alone: dict[str, str] = {}
        for path in (p for p in _images_below(images) if _is_reduced(p) == reduced):
            folder, _, name = path.rpartition("/")
            name = urllib.parse.unquote(name)  # some tools save it as it stood in the address
            for form in (_GALLERY, _SITE, _MD5):
                if match := form.fullmatch(name):
                    found.setdefault(match[1].lower(), path)
            stem = name.rpartition(".")[0]
            if not _is_usual(folder, stem):
                alone[stem] = "" if stem in alone else path
        for name, path in alone.items():
            found.setdefault(name, path)
    return found


def _buckets(name: str) -> list[str]:
    return [f"{int(name) % 1000:04d}", ""] if name.isdecimal() else [""]


def _is_usual(folder: str, stem: str) -> bool:
    """Whether `find_image` has looked for an id in a folder before."""
    return folder in ("/".join(filter(None, p)) for p in itertools.product(FOLDERS, _buckets(stem)))


def _images_below(images: pathlib.Path) -> Iterator[str]:
    for folder, names in walking.walk(images):
        for name in filter(formats.has_known_extension, names):
            yield (folder / name).relative_to(images).as_posix()


def _is_reduced(path: str) -> bool:
    """Returns whether a file or its folders say that it is a smaller version of an image."""
    return _REDUCED.search(path.lower()) is not None


def _find(folder: str, name: str, endings: tuple[str, ...]) -> pathlib.Path | None:
    """Returns the image `name` with one of the endings, the first first, else with any other."""
    try:
        changed = os.stat(folder).st_mtime_ns
    except OSError:  # no such folder
        return None
    paths = (os.path.join(folder, f"{name}.{ending}") for ending in endings)
    found = next(filter(os.path.isfile, paths), None)
    if found is not None:
        return pathlib.Path(found)
    others = (pathlib.Path(folder, other) for other in _others(folder, changed).get(name, ()))
    return next((p for p in others if p.is_file() and formats.is_image(p)), None)


@functools.lru_cache(maxsize=4096)
def _others(folder: str, changed: int) -> dict[str, list[str]]:
    """Returns id -> files with other endings than the usual or zeros before the id.

    `changed` is the time at which the folder was.
    """
    del changed  # a changed folder is listed anew
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        stem, *bare = _stems(name)
        if name.rpartition(".")[2] not in formats.EXTENSIONS:
            found.setdefault(stem, []).append(name)
        for number in bare:
            found.setdefault(number, []).append(name)
    return found


def _stems(name: str) -> list[str]:
    """Returns a name without its ending; also, of 00123.png, the number alone."""
    stem = name.rpartition(".")[0] or name
    is_padded = stem.isdecimal() and stem.startswith("0") and stem.strip("0")
    return [stem, stem.lstrip("0")] if is_padded else [stem]
