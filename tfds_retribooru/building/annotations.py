"""Reads annotation files, JSON of any form, as a stream of records and faults."""

import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tfds_retribooru import json_stream
from tfds_retribooru.building import records
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.text_files import open_binary

_REASONS = {
    "bad_json": "the line is not JSON",
    "truncated_list": "the list breaks off here",
    "too_long": "a value does not end within 64 million characters: it is damaged, or all in one "
    "object or list of lists; write one object a line",
    "second_list": "the object has two lists of records, and this one is not read",
    "not_json": "up to here there is no object of JSON, and what follows is not read",
    "damaged_file": "the compressed file breaks off or is damaged here",
}
_NAME = re.compile(
    r".+\.(json|jsonl|ndjson|tar|tgz|txz|zip)(\.(gz|bz2|xz|lzma|zst))?", re.IGNORECASE
)
COLLECTED = "manifest"  # the folder that a collection writes among its annotations
FOLDER = "the folder is among annotations, and what is in it is not read"
NOT_READ = "the file is beside annotations and not read: its name ends like none of theirs"


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the annotation files of a folder, in order of their names; not hidden ones.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = (path for path in folder.glob("[!.]*") if _NAME.fullmatch(path.name))
    found = sorted(path for path in paths if not path.is_dir())
    if not found:
        others = sorted(ascii(path.name)[1:-1] for path in folder.glob("[!.]*"))
        held = f", but {', '.join(others[:5])}: annotations are JSON" if others else ""
        raise FileNotFoundError(f"there is no *.json or *.jsonl in {folder}{held}")
    return found


def read(paths: Iterable[pathlib.Path]) -> Iterator[Record | Fault]:
    """Yields the records and faults of files, in order; of records with one id, the first.

    Files beside them that are not read are faults of the part "place", which reject no record.
    """
    ids: set[str] = set()
    unknown: set[str] = set()
    paths = list(paths)
    folders = {path.parent for path in paths}
    for other in sorted(other for folder in folders for other in folder.iterdir()):
        is_folder = other.is_dir()
        is_read = other.name == COLLECTED if is_folder else _NAME.fullmatch(other.name)
        if not is_read and not other.name.startswith("."):
            reason = FOLDER if is_folder else NOT_READ
            yield Fault("", reason, file=ascii(other.name)[1:-1], part="place")
    for path in paths:
        with open_binary(path) as stream:
            for line, item, fault in json_stream.read(stream):
                if fault in _REASONS:
                    yield Fault("", _REASONS[fault], file=path.name, line=line, detail=str(item))
                else:
                    yield from _parsed(item, path.name, line, ids=ids, unknown=unknown)


def _parsed(
    item: Any, name: str, line: int, *, ids: set[str], unknown: set[str]
) -> Iterator[Record | Fault]:
    """Yields the record, if it is a new one, and its faults; adds to the ids and unknown keys."""
    record, faults = records.parse(item, name, line)
    yield from faults
    if isinstance(item, dict):
        for key in sorted(item.keys() - records.KNOWN - unknown):
            unknown.add(key)
            reason = "unknown key (reported once)"
            yield Fault("", reason, file=name, line=line, part="key", detail=key)
    if record is None:
        return
    if record.id in ids:
        yield record.fault("the id was there before")
        return
    ids.add(record.id)
    yield record
