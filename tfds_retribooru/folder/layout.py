"""DIR/CHARACTER/[OUTFIT/]IMAGE, with IMAGE's tags in a text file beside it -> records."""

import codecs
import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Iterator

from tfds_retribooru import formats, tag_text
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.folder import beside, faces
from tfds_retribooru.folder.faces import Face

NEIGHBOURS = 8  # links of an image in an outfit folder of more than 2 * NEIGHBOURS images
NOT_TAKEN = "the picture is not in CHARACTER/ or CHARACTER/OUTFIT/"
CAPTIONS = (".txt", ".caption")  # of an image's tags, in any case; of several, the first is read
NOT_READ = "the file is no picture and holds no tags"
NO_TARGET = "the file is OneTrainer's picture for a control network"
NO_PICTURE = "the box is of no picture that is taken"
NO_IMAGE = "the tags are of no picture in their folder, or the picture's other text is read"


def read(root: pathlib.Path) -> Iterator[Record | Fault]:
    """Yields the records of a folder in the order of names; the id is the path below `root`.

    Images in one OUTFIT folder are `similar`. In a large one each names its NEIGHBOURS next
    (around in a ring), so that links do not grow with the square; they are connected all the same.
    Images that lie in CHARACTER itself wear an unknown outfit: each is an outfit of its own.
    Files elsewhere below `root` are faults of the part "place", which reject no record.
    """
    boxes, bad = faces.read(root)
    yield from bad
    yield from _not_taken(root, root)
    masks, held = set(), _folders_of_masks(root)
    for character in _folders(root):
        name = _composed(character.name).strip() or character.name
        held += _folders_of_masks(character)
        yield from _records(root, character, name, boxes, masks, linked=False)
        for outfit in _folders(character):
            held += _folders_of_masks(outfit)
            yield from _records(root, outfit, name, boxes, masks, linked=True)
            for deeper in _folders(outfit):
                for folder, folders, _ in os.walk(deeper):
                    folders[:] = sorted(name for name in folders if not name.startswith("."))
                    yield from _not_taken(root, pathlib.Path(folder))
    for name in boxes:  # those of images were taken out
        yield Fault("", NO_PICTURE, file=faces.NAME, part="place", detail=ascii(name)[1:-1])
    for folder in (pathlib.Path(place) for top in held for place, _, _ in os.walk(top)):
        yield from (_unread(root, path) for path in _files(folder) if path not in masks)


def locate(root: pathlib.Path, record: Record) -> tuple[pathlib.Path, pathlib.Path | None]:
    """Returns the image of a record, and its mask if there is one beside it."""
    image = root / record.id
    return image, beside.mask_of(image, root)


def _not_taken(root: pathlib.Path, folder: pathlib.Path) -> Iterator[Fault]:
    """Yields the faults of the files in a folder that holds no pictures to take."""
    for path in _files(folder):
        if path != root / faces.NAME:
            reason = NOT_TAKEN if formats.is_image(path) else NOT_READ
            yield Fault("", reason, file=ascii(_id(root, path))[1:-1], part="place")


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders in a folder without those of masks."""
    return [p for p in _subfolders(folder) if not beside.is_masks(p)]


def _folders_of_masks(folder: pathlib.Path) -> list[pathlib.Path]:
    return [p for p in _subfolders(folder) if beside.is_masks(p)]


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files in a folder, also links that lead nowhere; not hidden ones."""
    shown = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted(p for p in shown if p.is_file() or not p.exists())


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the images in a folder, without what is made of others: masks, conditions."""
    files = _files(folder)
    stems = {p.stem for p in files}
    return [
        p
        for p in files
        if not beside.belongs(p, stems)
        and p.suffix.lower() not in CAPTIONS
        and (formats.has_image_extension(p.name) or formats.is_image(p))
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
            face = boxes.pop(item.id, None) if isinstance(item, Record) else None
            if face is not None and isinstance(item, Record):
                yield from face.faults
                known = {name: getattr(face.box, name) for name in ("bbox", "pixels", "size")}
                item = dataclasses.replace(item, **known)
            yield item
    masks.update(filter(None, (beside.mask_of(image, root) for image in images)))
    for path in texts:
        if path not in used:
            yield Fault("", NO_IMAGE, file=ascii(_id(root, path))[1:-1], part="place")
    known = {*images, *texts}
    yield from (_unread(root, p) for p in _files(folder) if p not in known and p not in masks)


def _unread(root: pathlib.Path, path: pathlib.Path) -> Fault:
    reason = NO_TARGET if beside.is_condition(path) else NOT_READ
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
            tags = tag_text.split(_decoded(text.read_bytes()))
        except UnicodeDecodeError as error:
            reason = "the tags are not UTF-8"
            yield Fault(name, reason, file=name, part="prompts", detail=str(error))
    yield Record(id=name, character=character, similar=similar, prompts=", ".join(tags), file=name)


def _decoded(data: bytes) -> str:
    """Returns a text of UTF-8, or of UTF-16 where its first bytes say so."""
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")
