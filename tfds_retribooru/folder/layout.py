"""DIR/CHARACTER/[OUTFIT/]IMAGE, with IMAGE's tags in a text file beside it -> records.

Folders of `containers` (`images/`, `train/`) may lie around characters, or around their pictures.
"""

import dataclasses
import pathlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from tfds_retribooru import formats, tag_text, text_files, walking
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.folder import beside, containers, faces, words
from tfds_retribooru.folder.faces import Face

NEIGHBOURS = 8  # links of an image in an outfit folder of more than 2 * NEIGHBOURS images
NOT_TAKEN = "the picture is not in CHARACTER/ or CHARACTER/OUTFIT/"
CAPTIONS = (".txt", ".caption")  # of an image's tags, in any case; of several, the first is read
NOT_READ = "the file is no picture and no text of tags (.txt, .caption)"
NO_TARGET = "the file is OneTrainer's picture for a control network"
LIKE_MASK = "the file is called like a mask, but is of no picture: call it PICTURE_mask.png"
REGULARISATION = "the picture is one of kohya's for regularisation, and of no character"
CLOSED = "the folder may not be read"
NO_OWNER = "the mask is called like no picture, or like several, or is cut out of another one"
CALLED_MASKS = "the folder is called like one of masks, but is taken for a character or an outfit"
REPEATED = "the folder is taken for one character with others, as kohya's tools number them"
NO_PICTURE = "the box is of no picture that is taken"
NUMBERS = "the text holds numbers, such as YOLO's boxes, and no tags"
NO_IMAGE = "the tags are of no picture in their folder, or the picture's other text is read"
_REPEATS = re.compile(r"([1-9]\d*)_(.*[^\W\d].*)")  # of a folder's pictures, and its name
_PEOPLE = 3  # folders whose numbers run from 1 on are so many people's
_FIVE_NUMBERS = re.compile(r"([-+]?\d[\d.eE+-]*(\s+|$)){5,}")


def read(root: pathlib.Path) -> Iterator[Record | Fault]:
    """Yields the records of a folder in the order of names; the id is the path below `root`.

    Images in one OUTFIT folder are `similar`. In a large one each names its NEIGHBOURS next
    (around in a ring), so that links do not grow with the square; they are connected all the same.
    Images that lie in CHARACTER itself wear an unknown outfit: each is an outfit of its own.
    Files elsewhere below `root` are faults of the part "place", which reject no record.
    """
    beside.forget()
    boxes, bad = faces.read(root)
    yield from bad
    masks: set[pathlib.Path] = set()
    places = list(_places(root))
    for folder, character, is_outfit in places:
        if not character:
            yield from _not_taken(root, folder)
            continue
        if not is_outfit and _bare(_name(folder)) == character:
            file = ascii(_id(root, folder))[1:-1]
            yield Fault("", REPEATED, file=file, part="character", detail=ascii(character)[1:-1])
        yield from _records(root, folder, character, boxes, masks, linked=is_outfit)
        for deeper in _folders(folder, of_one=True) if is_outfit else ():
            for inner, _ in walking.walk(deeper):
                yield from _not_taken(root, inner)
    for name in boxes:  # those of images were taken out
        yield Fault("", NO_PICTURE, file=faces.NAME, part="place", detail=ascii(name)[1:-1])
    for folder, _, _ in places:
        yield from _called_masks(root, folder, masks)
        for path in walking.closed(folder):
            yield Fault("", CLOSED, file=ascii(_id(root, path))[1:-1], part="place")


def locate(root: pathlib.Path, record: Record) -> tuple[pathlib.Path, pathlib.Path | None]:
    """Returns the image of a record, and its mask if there is one beside it."""
    image = root / record.id
    return image, beside.mask_of(image, root)


def _not_taken(root: pathlib.Path, folder: pathlib.Path) -> Iterator[Fault]:
    """Yields the faults of the files in a folder that holds no pictures to take."""
    for path in _files(folder):
        if path != root / faces.NAME:
            reason = NOT_READ
            if formats.is_image(path):
                around = (p for p in path.parents if root in p.parents)
                is_of_class = any(map(containers.is_regularisation, around))
                reason = REGULARISATION if is_of_class else NOT_TAKEN
            yield Fault("", reason, file=ascii(_id(root, path))[1:-1], part="place")


def _places(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, str, bool]]:
    """Yields the folders of files: (folder, character or "", whether it is one outfit)."""
    for top in containers.below(root):
        yield top, "", False
        folders = _folders(top)
        for folder in filter(containers.is_regularisation, folders):
            yield from ((inner, "", False) for inner, _ in walking.walk(folder))
        folders = [p for p in folders if not containers.is_regularisation(p)]
        for name, character in _characters(folders):
            for around in containers.below(character, of_one=True):
                yield around, name, False
                for outfit in _folders(around, of_one=True):
                    inside = containers.below(outfit, of_one=True)
                    yield from ((inner, name, True) for inner in inside)


def _characters(folders: list[pathlib.Path]) -> Iterator[tuple[str, pathlib.Path]]:
    """Yields (name, folder); kohya's `10_ann` and `5_ann` are of one character, who is `ann`.

    `1_girl` and `2_girl` are two people, and so are `1_ann` and `2_ann` if there is a `3_...`.
    """
    found = list(map(_name, folders))
    numbers = sorted(int(match[1]) for match in map(_REPEATS.fullmatch, found) if match)
    is_run = len(numbers) >= _PEOPLE and numbers == list(range(1, len(numbers) + 1))
    bare = [name if is_run else _bare(name) or name for name in found]
    counts = Counter(bare)
    for folder, name, short in zip(folders, found, bare, strict=True):
        yield short if counts[short] > 1 else name, folder


def _name(folder: pathlib.Path) -> str:
    return _composed(folder.name).strip() or folder.name


def _bare(name: str) -> str:
    """Returns a name without kohya's number, "" if it has none, or is but a class then."""
    match = _REPEATS.fullmatch(name)
    return "" if match is None or words.is_class(match[2]) else match[2]


def _folders(folder: pathlib.Path, *, of_one: bool = False) -> list[pathlib.Path]:
    """Returns the folders in a folder, without those of masks and containers."""
    others = containers.containers(folder, of_one=of_one)
    found = (p for p in walking.subfolders(folder) if p not in others)
    return [p for p in found if not beside.is_masks(p)]


def _called_masks(
    root: pathlib.Path, folder: pathlib.Path, masks: set[pathlib.Path]
) -> Iterator[Fault]:
    """Yields the faults of the folders in a folder that are called like those of masks."""
    for held in walking.subfolders(folder):
        if not beside.is_masks(held):
            if beside.is_called_masks(held):
                yield Fault("", CALLED_MASKS, file=ascii(_id(root, held))[1:-1], part="place")
            continue
        for inner in sorted(place for place, _ in walking.walk(held)):
            yield from (_unread(root, p, NO_OWNER) for p in _files(inner) if p not in masks)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files in a folder, also links that lead nowhere; not hidden ones."""
    shown = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted(p for p in shown if p.is_file() or not p.exists())


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the images in a folder, without what is made of others: masks, conditions."""
    files = _files(folder)
    pictures = beside.by_stem(files)
    return [
        p
        for p in files
        if not beside.belongs(p, pictures)
        and p.suffix.lower() not in CAPTIONS
        and (formats.has_image_extension(p.name) or formats.is_image(p))
        and not beside.is_like_mask(p)
    ]


def _texts(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of tags in a folder, those that are preferred first."""
    files = (p for p in _files(folder) if p.suffix.lower() in CAPTIONS and p.is_file())
    return sorted(files, key=lambda p: (CAPTIONS.index(p.suffix.lower()), p.name.swapcase()))


def _id(root: pathlib.Path, image: pathlib.Path) -> str:
    return image.relative_to(root).as_posix()


def _composed(name: str) -> str:
    """Returns a name with composed letters: macOS writes "\u00e9" as "e" and an accent."""
    return unicodedata.normalize("NFC", name)


def _links(names: list[str], number: int) -> tuple[str, ...]:
    if len(names) > 2 * NEIGHBOURS:
        return tuple(names[(number + k) % len(names)] for k in range(1, NEIGHBOURS + 1))
    return tuple(name for name in names if name != names[number])


def _records(
    root: pathlib.Path,
    folder: pathlib.Path,
    character: str,
    boxes: dict[str, Face],
    masks: set[pathlib.Path],
    *,
    linked: bool,
) -> Iterator[Record | Fault]:
    """Yields the records of a folder's images, and the faults of its files of tags.

    Args:
        root: of all.
        folder: of the images.
        character: whom they show.
        boxes: by id; those of the images are taken out.
        masks: those of the images are added.
        linked: whether they show one outfit.
    """
    images, texts = _images(folder), _texts(folder)
    names = [_id(root, image) for image in images]
    by_name: dict[str, pathlib.Path] = {}
    for text in texts:
        by_name.setdefault(_composed(text.stem), text)
    used = set()
    for number, image in enumerate(images):
        # a.txt, a.jpg.txt
        text = by_name.get(_composed(image.stem)) or by_name.get(_composed(image.name))
        used.add(text)
        similar = _links(names, number) if linked else ()
        for item in _record(names[number], character, similar, text):
            face = boxes.pop(_composed(item.id), None) if isinstance(item, Record) else None
            if face is not None and isinstance(item, Record):
                yield from (dataclasses.replace(fault, id=item.id) for fault in face.faults)
                known = {name: getattr(face.box, name) for name in ("bbox", "pixels", "size")}
                item = dataclasses.replace(item, **known)
            yield item
    masks.update(filter(None, (beside.mask_of(image, root) for image in images)))
    for path in texts:
        if path not in used:
            yield Fault("", NO_IMAGE, file=ascii(_id(root, path))[1:-1], part="place")
    known = {*images, *texts}
    rest = (p for p in _files(folder) if p not in known and p not in masks)
    yield from (_unread(root, p, LIKE_MASK) for p in rest)


def _unread(root: pathlib.Path, path: pathlib.Path, of_images: str = "") -> Fault:
    """Returns the fault of a file that is not read; `of_images` is the reason for images."""
    reason = of_images if of_images and formats.is_image(path) else NOT_READ
    if beside.is_condition(path):
        reason = NO_TARGET
    return Fault("", reason, file=ascii(_id(root, path))[1:-1], part="place")


def _record(
    name: str, character: str, similar: tuple[str, ...], text: pathlib.Path | None
) -> Iterator[Record | Fault]:
    try:
        name.encode()
    except UnicodeEncodeError:
        yield Fault("", "the file's name is not UTF-8", file=ascii(name))
        return
    tags: list[str] = []
    if text is not None:
        try:
            tags = tag_text.split(text_files.read_text(text))
        except UnicodeDecodeError as error:
            reason = "the tags are not UTF-8"
            yield Fault(name, reason, file=name, part="prompts", detail=str(error))
        except OSError as error:
            reason = "the tags cannot be read"
            yield Fault(
                name, reason, file=name, part="prompts", detail=error.strerror or str(error)
            )
        if tags and all(map(_FIVE_NUMBERS.fullmatch, tags)):
            detail, tags = ", ".join(tags)[:80], []
            yield Fault(name, NUMBERS, file=name, part="prompts", detail=detail)
    yield Record(id=name, character=character, similar=similar, prompts=", ".join(tags), file=name)
