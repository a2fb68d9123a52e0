"""DIR/CHARACTER/[OUTFIT/]IMAGE, with IMAGE's tags in a .txt beside it -> records."""

import pathlib
from collections.abc import Iterator

from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.images import EXTENSIONS

NEIGHBOURS = 8  # links of an image in an outfit folder of more than 2 * NEIGHBOURS images


def read(root: pathlib.Path) -> Iterator[Record | Fault]:
    """Yields the records of a folder in the order of names; the id is the path below `root`.

    Images in one OUTFIT folder are `similar`. In a large one each names its NEIGHBOURS next
    (around in a ring), so that links do not grow with the square; they are connected all the same.
    Images that lie in CHARACTER itself wear an unknown outfit: each is an outfit of its own.
    """
    for character in _folders(root):
        for image in _images(character):
            yield from _record(root, image, character.name, ())
        for outfit in _folders(character):
            images = _images(outfit)
            names = [_id(root, image) for image in images]
            for number, image in enumerate(images):
                yield from _record(root, image, character.name, _links(names, number))


def locate(root: pathlib.Path, record: Record) -> tuple[pathlib.Path, None]:
    """Returns the image of a record; folders have no masks."""
    return root / record.id, None


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix[1:].lower() in EXTENSIONS and not p.name.startswith(".") and p.is_file()
    )


def _id(root: pathlib.Path, image: pathlib.Path) -> str:
    return image.relative_to(root).as_posix()


def _links(names: list[str], number: int) -> tuple[str, ...]:
    if len(names) > 2 * NEIGHBOURS:
        return tuple(names[(number + k) % len(names)] for k in range(1, NEIGHBOURS + 1))
    return tuple(name for name in names if name != names[number])


def _record(
    root: pathlib.Path, image: pathlib.Path, character: str, similar: tuple[str, ...]
) -> Iterator[Record | Fault]:
    name = _id(root, image)
    try:
        name.encode()
    except UnicodeEncodeError:
        yield Fault("", "the file's name is not UTF-8", file=ascii(name))
        return
    text = image.with_suffix(".txt")
    tags = ""
    if text.is_file():
        try:
            tags = text.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            reason = "the tags are not UTF-8"
            yield Fault(name, reason, file=name, part="prompts", detail=str(error))
    tags = ", ".join(tag for tag in (t.strip() for t in tags.replace("\n", ",").split(",")) if tag)
    yield Record(id=name, character=character, similar=similar, prompts=tags, file=name)
