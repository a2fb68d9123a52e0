"""DIR/CHARACTER/[OUTFIT/]IMAGE, with IMAGE's tags in a .txt beside it -> records."""

import os
import pathlib
from collections.abc import Iterator

from tfds_retribooru import formats
from tfds_retribooru.building.records import Fault, Record

NEIGHBOURS = 8  # links of an image in an outfit folder of more than 2 * NEIGHBOURS images
NOT_TAKEN = "the picture is not in CHARACTER/ or CHARACTER/OUTFIT/"


def read(root: pathlib.Path) -> Iterator[Record | Fault]:
    """Yields the records of a folder in the order of names; the id is the path below `root`.

    Images in one OUTFIT folder are `similar`. In a large one each names its NEIGHBOURS next
    (around in a ring), so that links do not grow with the square; they are connected all the same.
    Images that lie in CHARACTER itself wear an unknown outfit: each is an outfit of its own.
    Images elsewhere below `root` are faults of the part "place", which reject no record.
    """
    yield from _not_taken(root, _images(root))
    for character in _folders(root):
        texts = _texts(character)
        for image in _images(character):
            yield from _record(root, image, character.name, (), texts)
        for outfit in _folders(character):
            images, texts = _images(outfit), _texts(outfit)
            names = [_id(root, image) for image in images]
            for number, image in enumerate(images):
                yield from _record(root, image, character.name, _links(names, number), texts)
            for deeper in _folders(outfit):
                for folder, folders, _ in os.walk(deeper):
                    folders[:] = sorted(name for name in folders if not name.startswith("."))
                    yield from _not_taken(root, _images(pathlib.Path(folder)))


def locate(root: pathlib.Path, record: Record) -> tuple[pathlib.Path, None]:
    """Returns the image of a record; folders have no masks."""
    return root / record.id, None


def _not_taken(root: pathlib.Path, images: list[pathlib.Path]) -> Iterator[Fault]:
    for image in filter(formats.is_image, images):
        yield Fault("", NOT_TAKEN, file=ascii(_id(root, image))[1:-1], part="place")


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        p
        for p in folder.iterdir()
        if not p.name.startswith(".")
        and p.is_file()
        and p.suffix.lower() != ".txt"
        and (formats.has_image_extension(p.name) or formats.is_image(p))
    )


def _texts(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns image's name without its ending -> its tags, of the texts in a folder."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".txt" and p.is_file())
    return {p.stem: p for p in files}  # of a.TXT and a.txt, the latter


def _id(root: pathlib.Path, image: pathlib.Path) -> str:
    return image.relative_to(root).as_posix()


def _links(names: list[str], number: int) -> tuple[str, ...]:
    if len(names) > 2 * NEIGHBOURS:
        return tuple(names[(number + k) % len(names)] for k in range(1, NEIGHBOURS + 1))
    return tuple(name for name in names if name != names[number])


def _record(
    root: pathlib.Path,
    image: pathlib.Path,
    character: str,
    similar: tuple[str, ...],
    texts: dict[str, pathlib.Path],
) -> Iterator[Record | Fault]:
    name = _id(root, image)
    try:
        name.encode()
    except UnicodeEncodeError:
        yield Fault("", "the file's name is not UTF-8", file=ascii(name))
        return
    tags = ""
    if image.stem in texts:
        try:
            tags = texts[image.stem].read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            reason = "the tags are not UTF-8"
            yield Fault(name, reason, file=name, part="prompts", detail=str(error))
    tags = ", ".join(tag for tag in (t.strip() for t in tags.replace("\n", ",").split(",")) if tag)
    yield Record(id=name, character=character, similar=similar, prompts=tags, file=name)
