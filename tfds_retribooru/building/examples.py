"""From a stream of records to the examples of each split.

The records are read twice. The first time (`plan_splits`) only ids, characters and links are kept,
and decide the splits. The second time, once a split, images are decoded on all cores and stored.
"""

import dataclasses
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfds_retribooru import boxes, decoding, images, tag_text, variants
from tfds_retribooru.building import splits
from tfds_retribooru.building.parts import PartCounts
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.building.rejections import Rejections
from tfds_retribooru.building.stored import Stored
from tfds_retribooru.close_ups import CloseUp
from tfds_retribooru.images import PreparedImage, Unreadable
from tfds_retribooru.threads import map_in_order

SPELLED = "the character is spelled otherwise than where it stands first, and is that one"
SIZES = 100  # of pictures, that are read where records with boxes in pixels do not say them
Paths = tuple[pathlib.Path | None, pathlib.Path | None]  # of image and mask; None: there is none


@dataclasses.dataclass(frozen=True)
class Source:
    """Records and their images; picklable.

    Attributes:
        read: makes the stream of records and faults, each time anew.
        locate: the paths of a record's files.
        side: of stored images; see images.prepare.
        box_format: of boxes in pixels, one of boxes.FORMATS; see `plan_splits`.
        place: where they are, for messages.
    """

    read: Callable[[], Iterator[Record | Fault]]
    locate: Callable[[Record], Paths]
    side: int | None
    box_format: str = boxes.FORMATS[0]
    place: str = ""

    def items(self) -> Iterator[Record | Fault]:
        """Yields records and faults; a character is called as where it stands first.

        `Sendai` and `sendai` are one (`tag_text.name`); a fault of the part "character" names
        each record that spells it otherwise.
        """
        first: dict[str, str] = {}
        for item in self.read():
            if isinstance(item, Record):
                key = tag_text.name(item.character) or item.character
                name = first.setdefault(key, item.character)
                if name != item.character:
                    yield item.fault(SPELLED, part="character", detail=ascii(item.character)[1:-1])
                    item = dataclasses.replace(item, character=name)
            yield item

    def records(self) -> Iterator[Record]:
        """Yields the records without the faults."""
        return (item for item in self.items() if isinstance(item, Record))

    def size_of(self, record: Record) -> tuple[int, int] | None:
        """Returns (width, height) of a record's picture; None if it cannot be read."""
        try:
            path = self.locate(record)[0]
            return None if path is None else decoding.open_upright(path.read_bytes()).image.size
        except (Unreadable, OSError):
            return None

    def image_of(self, record: Record) -> PreparedImage | Unreadable:
        """Returns the image as it is stored, or why it cannot be."""
        try:
            path, mask = self.locate(record)
            if path is None:
                return Unreadable("the picture's file is missing")
            return images.prepare(
                path.read_bytes(),
                self.side,
                mask=None if mask is None else mask.read_bytes(),
                bbox=record.bbox,
                pixel_box=record.pixels and (record.pixels, self.box_format),
                original=record.size,
            )
        except Unreadable as error:
            return Unreadable(error.reason, error.detail[:120])
        except OSError as error:
            return Unreadable("a file cannot be read", str(error.strerror))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the first reading decided, by the order of the records.

    Attributes:
        marks: uint32 [N], checksums of the ids, by which a later reading is compared.
        split: int8 [N], index into splits.SPLITS.
        similar: each record's links, without those that lead nowhere or to another character.
        variant_keys: of `variants.roots`, for the records that ids connect as variants.
        box_format: of the boxes in pixels, one of boxes.FORMATS.
    """

    marks: np.ndarray
    split: np.ndarray
    similar: Sequence[tuple[str, ...]]
    variant_keys: Mapping[str, str]
    box_format: str = boxes.FORMATS[0]

    def rows(self, source: Source) -> Iterator[tuple[Record, tuple[str, ...], int]]:
        """Reads the records again; yields each with its links and its split.

        Raises:
            ValueError: they are not those of the first reading.
        """
        planned = zip(self.marks.tolist(), self.similar, self.split.tolist(), strict=True)
        for record in source.records():
            mark, similar, split = next(planned, (None, (), 0))
            if mark != _mark(record):
                raise _changed(source, f"at the record {record.id}")
            yield record, similar, split
        if next(planned, None) is not None:
            raise _changed(source, "at the last record")


def _mark(record: Record) -> int:
    return zlib.crc32(record.id.encode())


def _changed(source: Source, where: str) -> ValueError:
    return ValueError(
        f"{source.place or 'what is built'} changed while it was read ({where}): build again when "
        "nothing writes into it"
    )


def plan_splits(source: Source, log: Rejections) -> Plan:
    """Reads all records once; logs every fault that needs no image.

    Raises:
        ValueError: there is no record at all, too many are rejected, or boxes are in percent.
    """
    records: list[Record] = []
    parts, unsized = PartCounts(), list[Record]()
    for item in source.items():
        parts.add(item)
        if isinstance(item, Fault):
            log.add(item)
            continue
        place = {"file": item.file, "line": item.line}
        kept = {"similar": item.similar, "relatives": item.relatives}
        records.append(Record(item.id, item.character, **kept, **place))
        if item.pixels and not item.size and len(unsized) < SIZES:
            unsized.append(item)
    for item in unsized:
        if item.pixels and (size := source.size_of(item)):
            parts.add_pixels(item.pixels, size)
    log.total = len(records) + log.rejected
    if not records:
        where = f" in {source.place}" if source.place else ""
        raise ValueError(f"there is no record to build from{where}.\n{log.summary()}".rstrip())
    log.check()
    parts.check_boxes()
    similar = _checked_links(records, log)
    parts.add_links(records, similar)
    parts.report(log)
    log.check_parts()
    ids, characters = [r.id for r in records], [r.character for r in records]
    keys = variants.roots((record.id, name) for record in records for name in record.relatives)
    split = splits.assign(ids, characters, _joined(records, similar, keys))
    marks = np.fromiter(map(_mark, records), np.uint32, len(records))
    return Plan(marks, split, similar, keys, parts.box_format)


def _joined(
    records: Sequence[Record], similar: Sequence[tuple[str, ...]], keys: Mapping[str, str]
) -> list[tuple[str, ...]]:
    """Returns the links, and of each record one to the first of its character's variants."""
    first: dict[tuple[str, str], str] = {}
    joined = []
    for record, links in zip(records, similar, strict=True):
        name = first.setdefault((record.character, keys.get(record.id, record.id)), record.id)
        joined.append(links if name == record.id else (*links, name))
    return joined


def _checked_links(records: Sequence[Record], log: Rejections) -> list[tuple[str, ...]]:
    """Returns the links without those to unknown ids or other characters, which are logged."""
    character_of = {record.id: record.character for record in records}
    checked = []
    for record in records:
        links = record.similar
        if any(character_of.get(link) != record.character for link in links):
            for link in links:
                if link not in character_of:
                    reason = "a similar id is of no record"
                elif character_of[link] != record.character:
                    reason = "a similar id is of another character"
                else:
                    continue
                log.add(record.fault(reason, part="similar", detail=link))
            links = tuple(link for link in links if character_of.get(link) == record.character)
        checked.append(links)
    return checked


def usable_splits(source: Source, plan: Plan, log: Rejections) -> list[str]:
    """Returns the splits with a record whose image can be used: TFDS cannot store an empty one.

    The faults of a split without any are logged.
    """
    faults: dict[int, list[Fault]] = {int(split): [] for split in np.unique(plan.split)}
    for record, _, split in plan.rows(source):
        if split in faults:
            image = source.image_of(record)
            if isinstance(image, Unreadable):
                faults[split].append(record.fault(image.reason, detail=image.detail))
            else:
                del faults[split]
        if not faults:
            break
    for fault in (fault for unusable in faults.values() for fault in unusable):
        log.add(fault)
    used = set(plan.split.tolist()) - faults.keys()
    return [name for i, name in enumerate(splits.SPLITS) if i in used]


def examples(
    source: Source, plan: Plan, split: str, *, kept: Stored, log: Rejections
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (id, example) of the records of one split whose images can be used.

    Args:
        source: of which `plan` was made.
        plan: by `plan_splits`.
        split: one of splits.SPLITS; they are to be built in that order.
        kept: the images of all splits so far; is added to. What may not be stored beside them is
            left out, so that no image is in two splits, or its own reference.
        log: collects the faults.

    Raises:
        TooManyRejected: see rejections.Rejections.
        ValueError: nothing of the split is left, or the records have changed.
    """
    number, is_empty = splits.SPLITS.index(split), True
    chosen = (
        dataclasses.replace(record, similar=similar)
        for record, similar, of in plan.rows(source)
        if of == number
    )
    for record, image in map_in_order(lambda r: (r, source.image_of(r)), chosen):
        if isinstance(image, Unreadable):
            log.add(record.fault(image.reason, detail=image.detail))
        elif fault := kept.fault(split, record, digest=image.digest, hashed=image.hash):
            log.add(fault)
        else:
            log.add_image(record, image.faults, has_mask=image.mask is not None)
            kept.add(split, record, digest=image.digest, hashed=image.hash)
            variants.append(log.path.parent, record.id, record.relatives, image.hash)
            is_empty = False
            yield record.id, example(record, image)
    log.check_parts()
    if is_empty:
        raise ValueError(f"all pictures of the split {split!r} were left out.\n{log.summary()}")


def example(record: Record, image: PreparedImage) -> dict[str, Any]:
    """Returns what TFDS stores of a record; see features.features."""
    return {
        "id": record.id,
        "character": record.character,
        "artists": record.artists,
        "image": image.data,
        "mask": _NO_MASK if image.mask is None else image.mask,
        "has_mask": image.mask is not None,
        "bbox": np.array(image.bbox or (0,) * 4, np.float32),
        "has_bbox": image.bbox is not None,
        **_close_up("face", image.face),
        **_close_up("clothes", image.clothes),
        "cloths": list(record.cloths),
        "similar": list(record.similar),
        "prompts": record.prompts,
    }


def _close_up(name: str, found: CloseUp | None) -> dict[str, Any]:
    data, frame = (_NO_CLOSE_UP, (0,) * 4) if found is None else found
    return {name: data, f"{name}_frame": np.array(frame, np.float32)}


_NO_MASK = images.black_pixel()
_NO_CLOSE_UP = images.black_pixel("RGB")
