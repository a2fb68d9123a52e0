"""Reads annotation files as a stream: a JSON list, or JSON lines; memory does not grow with size.

In JSON lines a broken line is lost alone. In a list that breaks off, or breaks in the middle, the
records before the break are kept, and the break is one fault.
"""

import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from tfds_retribooru import records
from tfds_retribooru.records import Fault, Record

CHUNK = 1 << 20  # characters read at once
LONGEST = 1 << 24  # characters of the longest record; a list is broken where one is longer

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The annotation files of a folder, in order of their names.

    Raises:
      FileNotFoundError: there is none.
    """
    found = sorted([*folder.glob("*.json"), *folder.glob("*.jsonl")])
    if not found:
        raise FileNotFoundError(f"there is no *.json or *.jsonl in {folder}")
    return found


def read(paths: Iterable[pathlib.Path]) -> Iterator[Record | Fault]:
    """Records and faults of files, in order; of records with one id, the first."""
    ids: set[str] = set()
    unknown: set[str] = set()
    for path in paths:
        for line, item in items(path):
            if isinstance(item, Fault):
                yield item
                continue
            record, faults = records.parse(item, path.name, line)
            yield from faults
            if isinstance(item, dict):
                for key in item.keys() - records.KNOWN - unknown:
                    unknown.add(key)
                    yield Fault("", "unknown key (reported once)", path.name, line, "key", key)
            if record is None:
                continue
            if record.id in ids:
                yield Fault(record.id, "the id was there before", path.name, line)
                continue
            ids.add(record.id)
            yield record


def items(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
    """(line, decoded value or Fault) of one file, of either kind.

    Bytes that are no UTF-8 become surrogates, which `records.parse` finds.
    """
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": "\n"}
    with path.open(**options) as file:
        first = file.read(1)
        line = 1
        while first and first in _SPACE:
            line += first == "\n"
            first = file.read(1)
        if first == "[":
            yield from _list(file, path.name, line)
        else:
            yield from _lines(first, file, path.name, line)


def _lines(first: str, file: TextIO, name: str, line: int) -> Iterator[tuple[int, Any]]:
    text = first + file.readline()
    while text:
        if text.strip():
            yield line, _decoded(text, name, line)
        text, line = file.readline(), line + 1


def _decoded(text: str, name: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return Fault("", "the line is not JSON", name, line, detail=str(error)[:80])


def _list(file: TextIO, name: str, line: int) -> Iterator[tuple[int, Any]]:
    """The elements of a list whose "[" was read, up to its end or its first break."""
    text, wanted, after = "", "element or ]", None
    while True:
        stripped = text.lstrip(_SPACE)
        line += text.count("\n", 0, len(text) - len(stripped))
        text = stripped
        if not text:
            text = file.read(CHUNK)
            if not text:
                break
            continue
        if text[0] == "]" and wanted != "element":
            after = text[1:] + file.read(CHUNK)
            break
        if wanted == ", or ]":
            if text[0] != ",":
                break
            text, wanted = text[1:], "element"
            continue
        item, end, text = _element(text, file)
        if end == 0:
            break
        yield line, item
        line += text.count("\n", 0, end)
        text, wanted = text[end:], ", or ]"
    if after is None or after.strip(_SPACE):
        yield line, Fault("", "the list breaks off here", name, line, detail=text[:60])


def _element(text: str, file: TextIO) -> tuple[Any, int, str]:
    """(element, its length or 0 if it is broken, the text with what was read on)."""
    while True:
        try:
            item, end = _DECODER.raw_decode(text)
            if text[end : end + 1] in (*_SPACE, ",", "]"):  # else a number may go on
                return item, end, text
        except RecursionError:
            return None, 0, text
        except ValueError:
            item, end = None, 0
        more = file.read(max(CHUNK, len(text))) if len(text) < LONGEST else ""
        if not more:
            return item, end, text
        text += more
