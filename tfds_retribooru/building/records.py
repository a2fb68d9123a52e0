"""One annotated image, and how a JSON object becomes one.

The keys of an object are those of RetriBooru's annotation figure (paper, Dataset), and a few of
Danbooru's metadata: id, character, artists, bbox, cloths, similar, prompts (or prompt), md5,
width, height, file_ext, parent_id, children. What cannot be used becomes a `Fault`: of the record,
or of a part of it, which then is left out while the record stays. Tags are lists of texts, or texts
of tags (see `tag_text.split`).
"""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from tfds_retribooru import boxes, tag_text
from tfds_retribooru.boxes import Box
from tfds_retribooru.building import values

KNOWN = frozenset(
    "id character artists bbox cloths similar prompts prompt md5 width height file_ext "
    "parent_id children children_ids".split()
)

_ID = re.compile(r"(?![.\s])[^/\\\x00-\x1f\x7f]+(?<!\s)")  # no separator, no "..": a file's name
_LONGEST = 240  # bytes of an id, with which a file's name may still have an ending
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_EXTENSION = re.compile(r"[0-9a-z]{1,5}")

Report = Callable[[str, str, Any], None]  # takes (part, reason, value) of a part that is left out


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be used, or a part of one.

    Attributes:
        id: of the record, "" where it is unknown.
        reason: one of a few sentences or words, to count by.
        file: name of the annotation file, or path of the image in a folder; "" where the reader
            of the faults knows it.
        line: in that file, from 1; 0 where there are no lines.
        part: "bbox", "mask", "similar", ...; "" is the record itself.
        detail: of this case.
    """

    id: str
    reason: str
    _: dataclasses.KW_ONLY
    file: str = ""
    line: int = 0
    part: str = ""
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image's annotation.

    Attributes:
        id: names the image's file; safe as a file's name (or a path in a folder of one's own).
        character: its identity.
        artists: as recorded.
        bbox: of the face, relative to the image file, letterbox included; None without a detector.
        pixels: a box that is in pixels of the original, four numbers of a format that the whole of
            the data tells (see boxes.FORMATS); then there is no `bbox`.
        cloths: clothing tags.
        similar: ids of the same character in the same outfit, never its own.
        prompts: comma-joined tags.
        size: (width, height) of the original image, None if unknown.
        relatives: ids of its parent and its children, also of those that are no records; see
            `tfds_retribooru.variants`.
        extension: of the image's file, "" if unknown.
        md5: of the image's file, which may be named by it; "" if unknown.
        file: where the record stands.
        line: in that file.
    """

    id: str
    character: str
    artists: str = ""
    bbox: Box | None = None
    pixels: Box | None = None
    cloths: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()
    prompts: str = ""
    size: tuple[int, int] | None = None
    relatives: tuple[str, ...] = ()
    extension: str = ""
    md5: str = ""
    file: str = ""
    line: int = 0

    def fault(self, reason: str, *, part: str = "", detail: str = "") -> Fault:
        """Returns a fault of this record, with its place."""
        return Fault(self.id, reason, file=self.file, line=self.line, part=part, detail=detail)


def parse(item: Any, file: str, line: int) -> tuple[Record | None, list[Fault]]:
    """Reads a decoded JSON value.

    Args:
        item: any value that JSON can hold.
        file: its annotation file's name.
        line: in that file, from 1.

    Returns:
        The record, None if it cannot be used, and the faults of it and of its parts.
    """

    def fault(reason: str, value: Any, *, name: str = "", part: str = "") -> Fault:
        return Fault(name, reason, file=file, line=line, part=part, detail=_short(value))

    if not isinstance(item, Mapping):
        return None, [fault("the record is not an object", item)]
    item = {key: None if values.is_nan(value) else value for key, value in item.items()}
    name = _id(values.whole(item.get("id")))
    if name is None:
        return None, [fault("the id is no number and no plain file name", item.get("id"))]
    character = unicodedata.normalize("NFC", _text(item.get("character"))).strip()
    if not character:
        return None, [fault("the character is not a text", item.get("character"), name=name)]
    faults: list[Fault] = []

    def report(part: str, reason: str, value: Any) -> None:
        faults.append(fault(reason, value, name=name, part=part))

    box = _box(item.get("bbox"), report)
    in_pixels = box is not None and boxes.is_in_pixels(box)
    record = Record(
        id=name,
        character=character,
        artists=_joined("artists", item.get("artists"), report),
        bbox=None if in_pixels else box,
        pixels=box if in_pixels else None,
        cloths=tuple(_texts("cloths", item.get("cloths"), report)),
        similar=_similar(name, item.get("similar"), report),
        prompts=_joined("prompts", item.get("prompts", item.get("prompt")), report),
        size=_size(item.get("width"), item.get("height"), report),
        relatives=_relatives(name, item, report),
        extension=_extension(item.get("file_ext"), report),
        md5=_md5(item.get("md5")),
        file=file,
        line=line,
    )
    return record, faults


def _short(value: Any) -> str:
    """Returns the value for a message: printable, at most 80 characters."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _id(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, int) and not 0 <= value < 10**18:
        return None
    text = _text(str(value))
    return text if _ID.fullmatch(text) and len(text.encode()) <= _LONGEST else None


def _text(value: Any) -> str:
    """Returns a text that is UTF-8 throughout (no U+FFFD, no half of a character), or ""."""
    if not isinstance(value, str) or "\ufffd" in value:
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        return ""
    return value


def _joined(part: str, value: Any, report: Report) -> str:
    """Returns tags as one comma-joined text."""
    return ", ".join(_texts(part, value, report))


def _texts(part: str, value: Any, report: Report) -> list[str]:
    """Returns the tags of a list or a text; anything else in it is reported."""
    if value is None:
        return []
    if isinstance(value, str):
        value = tag_text.split(value)
    if not isinstance(value, list):
        report(part, f"{part} is of the wrong type", value)
        return []
    texts = []
    for tag in value:
        if not isinstance(tag, str):
            report(part, f"a tag of {part} is not a text", tag)
        elif tag != _text(tag):
            report(part, f"a tag of {part} is not UTF-8", tag)
        else:
            words = tag_text.unescaped(tag).split(",")
            texts += [word for word in (w.strip() for w in words) if word]
    return texts


def _similar(own: str, value: Any, report: Report) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = values.listed(value)
    if not isinstance(value, list):
        report("similar", "similar is not a list", value)
        return ()
    links: dict[str, None] = {}
    for link in value:
        name = _id(values.whole(link))
        if name is None:
            report("similar", "a similar id is no number and no plain file name", link)
        elif name == own:
            report("similar", "a similar id is the record's own", link)
        else:
            links[name] = None  # an id that is named twice is one link
    return tuple(links)


def _relatives(own: str, item: Mapping[str, Any], report: Report) -> tuple[str, ...]:
    """Returns the ids of parent and children; 0 is none, as in Gelbooru's metadata."""
    found: dict[str, None] = {}
    for key in ("parent_id", "children", "children_ids"):
        value = item.get(key)
        links = values.listed(value) if isinstance(value, str) else value
        for link in links if isinstance(links, list) else [links]:
            if values.is_nan(link):
                continue
            link = link.get("id") if isinstance(link, Mapping) else values.whole(link)
            name = _id(link)
            if name is None and link is not None:
                report(key, f"{key} is no number and no plain file name", link)
            elif name is not None and name not in (own, "0"):
                found[name] = None
    return tuple(found)


def _box(value: Any, report: Report) -> Box | None:
    """Returns a relative box that is inside the picture, or one in pixels as it is."""
    if value is None or value == []:  # a detector's list of the faces
        return None
    given = values.listed(value) if isinstance(value, str) else value
    given = given if isinstance(given, list) else []
    numbers = [number for number in map(values.number, given) if number is not None]
    if not len(numbers) == len(given) == 4:
        report("bbox", "the box is not a list of four numbers", value)
        return None
    x, y, w, h = numbers
    if boxes.is_in_pixels(numbers):
        return x, y, w, h
    box = boxes.cut_box((x, y, w, h))
    if box is None:
        report("bbox", "the box is not inside the picture", value)
    return box


def _size(width: Any, height: Any, report: Report) -> tuple[int, int] | None:
    if values.whole(width) is None and values.whole(height) is None:
        return None
    w, h = values.side(width), values.side(height)
    if w is None or h is None:
        report("size", "width and height are not numbers of pixels", [width, height])
        return None
    return w, h


def _md5(value: Any) -> str:
    return value.lower() if isinstance(value, str) and _MD5.fullmatch(value) else ""


def _extension(value: Any, report: Report) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not _EXTENSION.fullmatch(value.lower()):
        report("file_ext", "file_ext is not the ending of a file", value)
        return ""
    return value.lower()
