"""One annotated picture, and how a JSON object becomes one.

The keys of an object are those of RetriBooru's annotation figure (paper, Dataset), and a few of
Danbooru's metadata: id, character, artists, bbox, cloths, similar, prompts (or prompt), md5,
width, height, file_ext. What is wrong becomes a `Fault`: of the whole record, or of a part of it,
which then is left out while the record stays.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

KNOWN = frozenset(
    "id character artists bbox cloths similar prompts prompt md5 width height file_ext".split()
)
EDGE = 0.01  # how far a box may stick out of the picture and is cut, instead of being a fault

_ID = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.-]{0,127}")  # no separator, no "..": a file's name
_EXTENSION = re.compile(r"[0-9a-z]{1,5}")

Box = tuple[float, float, float, float]  # centre x, centre y, width, height, in [0, 1]


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Something that was left out.

    Attributes:
        id: of the record, "" where it is unknown.
        reason: one of a few sentences, to count by.
        file: the annotation file's name, or the picture's path in a folder.
        line: in that file, from 1; 0 where there are no lines.
        part: what is lost ("bbox", "mask", "similar", ...); "" is the whole record.
        detail: of this case.
    """

    id: str
    reason: str
    file: str
    line: int
    part: str = ""
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One picture's annotation.

    Attributes:
        id: names the picture's file; safe as a file's name (or a path in a folder of one's own).
        character: its identity.
        artists: as recorded.
        bbox: of the face, relative to the picture as its file shows it; None without a detector.
        cloths: clothing tags.
        similar: ids of the same character in the same outfit, never its own.
        prompts: comma-joined tags.
        size: (width, height) of the original picture, None if unknown.
        extension: of the picture's file, "" if unknown.
        file: where the record stands.
        line: in that file.
    """

    id: str
    character: str
    artists: str = ""
    bbox: Box | None = None
    cloths: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()
    prompts: str = ""
    size: tuple[int, int] | None = None
    extension: str = ""
    file: str = ""
    line: int = 0


def parse(item: Any, file: str, line: int) -> tuple[Record | None, list[Fault]]:
    """A decoded JSON value -> (record, or None if it is lost; faults)."""
    if not isinstance(item, Mapping):
        return None, [Fault("", "the record is not an object", file, line, detail=_short(item))]
    name = _id(item.get("id"))
    if name is None:
        reason = "the id is no number and no plain file name"
        return None, [Fault("", reason, file, line, detail=_short(item.get("id")))]
    character = item.get("character")
    if not _is_text(character) or not character.strip():
        reason = "the character is not a text"
        return None, [Fault(name, reason, file, line, detail=_short(character))]
    faults: list[Fault] = []

    def lost(part: str, reason: str, value: Any) -> None:
        faults.append(Fault(name, reason, file, line, part, _short(value)))

    record = Record(
        id=name,
        character=character.strip(),
        artists=_joined("artists", item.get("artists"), lost),
        bbox=_box(item.get("bbox"), lost),
        cloths=tuple(_texts("cloths", item.get("cloths"), lost)),
        similar=_similar(name, item.get("similar"), lost),
        prompts=_joined("prompts", item.get("prompts", item.get("prompt")), lost),
        size=_size(item.get("width"), item.get("height"), lost),
        extension=_extension(item.get("file_ext"), lost),
        file=file,
        line=line,
    )
    return record, faults


def _short(value: Any) -> str:
    """For a message: printable, at most 80 characters."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _id(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, int) and not 0 <= value < 10**18:
        return None
    return str(value) if _ID.fullmatch(str(value)) else None


def _is_text(value: Any) -> bool:
    """Whether it is a text without bytes that were no UTF-8 (U+FFFD) and halves of characters."""
    if not isinstance(value, str) or "\ufffd" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _joined(part: str, value: Any, lost) -> str:
    """Tags as one comma-joined text, from a text or a list."""
    if isinstance(value, str):
        value = value.split(",") if value else []
    return ", ".join(tag for tag in (t.strip() for t in _texts(part, value, lost)) if tag)


def _texts(part: str, value: Any, lost) -> list[str]:
    """The texts of a list; anything else in it is lost."""
    if value is None:
        return []
    if not isinstance(value, list):
        lost(part, f"{part} is of the wrong type", value)
        return []
    for tag in value:
        if not isinstance(tag, str):
            lost(part, f"a tag of {part} is not a text", tag)
        elif not _is_text(tag):
            lost(part, f"a tag of {part} is not UTF-8", tag)
    return [tag for tag in value if _is_text(tag)]


def _similar(own: str, value: Any, lost) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        lost("similar", "similar is not a list", value)
        return ()
    links: dict[str, None] = {}
    for link in value:
        name = _id(link)
        if name is None:
            lost("similar", "a similar id is no number and no plain file name", link)
        elif name == own:
            lost("similar", "a similar id is the record's own", link)
        else:
            links[name] = None  # an id that is named twice is one link
    return tuple(links)


def _box(value: Any, lost) -> Box | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
    if not numbers or len(value) != 4:
        lost("bbox", "the box is not a list of four numbers", value)
        return None
    box = cut_box(tuple(value))
    if box is None:
        lost("bbox", "the box is not inside the picture", value)
    return box


def cut_box(box: Box) -> Box | None:
    """The box without what sticks out by up to EDGE; None if it is not inside, or empty."""
    x, y, w, h = box
    if not all(0 <= v <= 1 for v in box):  # false for NaN, too
        return None
    edges = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if min(edges) < -EDGE or max(edges) > 1 + EDGE:
        return None
    left, top, right, bottom = (min(max(float(v), 0.0), 1.0) for v in edges)
    if right <= left or bottom <= top:
        return None
    if (left, top, right, bottom) == edges:
        return float(x), float(y), float(w), float(h)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _size(width: Any, height: Any, lost) -> tuple[int, int] | None:
    if width is None and height is None:
        return None
    sides = [_side(width), _side(height)]
    if None in sides:
        lost("size", "width and height are not numbers of pixels", [width, height])
        return None
    return tuple(sides)


def _side(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 8:
        value = int(value)
    return value if type(value) is int and 0 < value < 10**7 else None


def _extension(value: Any, lost) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not _EXTENSION.fullmatch(value.lower()):
        lost("file_ext", "file_ext is not the ending of a file", value)
        return ""
    return value.lower()
