"""JSON documents out of a file that is read once, front to back.

The file is any sequence of JSON values: one a line, indented, one behind the other, in lists, or
in an object around the list ({"posts": [...]}), in any encoding and compression of `text_files`.
Lines are read fastest. Damage costs what is damaged: reading goes on at the next line that begins
like the damaged document's; where there is none, the rest is lost, as nothing says where the next
document begins.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import orjson

from tfds_retribooru import json_text, json_values
from tfds_retribooru.json_values import Document
from tfds_retribooru.text_files import Utf8Source, open_binary

_BLOCK = 1 << 20  # bytes that are read at a time; also the longest line of the fast path
_LONGEST = 1 << 26  # characters; a document that does not end by then is taken as damage
_MANY = 10_000  # values at the beginning of a file, without an object among them: no JSON
_BLANK_BYTES = b"\xef\xbb\xbf\x1e \t\r\n,"


class Part(NamedTuple):
    """A part of a file.

    Attributes:
        path: of the file.
        start: byte from which its lines begin.
        stop: byte before which they begin; None is the end of the file.
        line: number of its first line, from 1.
    """

    path: str
    start: int = 0
    stop: int | None = None
    line: int = 1


def parts(path: str | pathlib.Path, size: int = 1 << 26) -> list[Part]:
    """Cuts a file of JSON lines into parts of about `size` bytes; any other file is one part."""
    path = pathlib.Path(path)
    if not _is_lines(path):
        return [Part(str(path))]
    result, start, newlines, ended = [], 0, 0, True
    with open(path, "rb") as stream:
        while block := stream.read(size):
            line = newlines + 1 if ended else newlines + 2  # the rest of a begun line is skipped
            result.append(Part(str(path), start, start + len(block), line))
            start += len(block)
            newlines += block.count(b"\n")
            ended = block.endswith(b"\n")
    return result


def read_part(part: Part) -> Iterator[Document]:
    """Yields the documents of a part, which begins and ends where a line begins with a brace.

    Of a file without a byte, such as a download that failed leaves, it yields a "not_json".
    """
    if not pathlib.Path(part.path).stat().st_size:
        yield Document(1, "", "not_json")
        return
    with open_binary(part.path) as stream:
        if part.stop is None:
            yield from read(stream)
            return
        if part.start:
            stream.seek(part.start - 1)
            stream.readline()  # the rest of a line that begins before the part
        stop, line = part.stop - stream.tell(), part.line
        source = Utf8Source(stream, _BLOCK)
        while part.start and (raw := source.readline()):
            if raw.startswith(b"{"):
                source.give_back(raw)
                break
            line += raw.endswith(b"\n")  # of a document that begins before the part
        yield from _worth_reading(_read(source, line, stop))


def read(stream: BinaryIO) -> Iterator[Document]:
    """Yields the documents of a binary stream from where it is."""
    return _worth_reading(_read(Utf8Source(stream, _BLOCK), 1, None))


def _worth_reading(documents: Iterator[Document]) -> Iterator[Document]:
    """Yields documents; of a file without an object the last one, if damaged, is "not_json".

    It gives up where many are no object. Numbers and words of a table are values, too: a table of a
    million rows would be millions of faults.
    """
    last = None
    for number, document in enumerate(documents):
        if last is not None:
            yield last
        if isinstance(document.value, dict):
            yield document
            yield from documents
            return
        last = document
        if number == _MANY:
            yield last._replace(fault="not_json")
            return
    if last is not None:
        yield last._replace(fault="not_json") if last.fault == "bad_json" else last


def _is_lines(path: pathlib.Path) -> bool:
    """Returns whether the first line that is not empty is one document."""
    with open(path, "rb") as stream:
        while raw := stream.readline(_BLOCK):
            if text := raw.strip(_BLANK_BYTES):
                return _is_document(text) and raw.endswith(b"\n")
    return False


def _is_document(text: bytes) -> bool:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and "id" in value


def _read(source: Utf8Source, line: int, stop: int | None) -> Iterator[Document]:
    """Yields the documents before the first line from `stop` on that begins with a brace."""
    while raw := source.readline():
        if stop is not None and source.position - len(raw) >= stop and raw.startswith(b"{"):
            return
        is_line = raw.endswith(b"\n") or source.ended
        text = raw.strip(_BLANK_BYTES)
        found = _line(line, text) if is_line else None
        if found is not None:
            yield from found
            line += raw.endswith(b"\n")
        else:
            source.give_back(raw)
            line = yield from json_text.Text(source, line, _LONGEST).documents(stop)
    if source.damage:
        yield Document(line, source.damage, "damaged_file")


def _line(number: int, text: bytes) -> list[Document] | None:
    """Returns the documents of a line; None if it is not one JSON value."""
    if not text:
        return []
    try:
        value, fault = orjson.loads(text), ""
    except orjson.JSONDecodeError:
        readable = text.decode("utf-8", "replace")
        fault = "bad_utf8" if "\ufffd" in readable else ""
        try:
            value = json.loads(readable)  # also reads NaN, and halves of surrogate pairs
        except (ValueError, RecursionError):
            return None
        value, half = json_values.without_halves(value, readable)
        fault = fault or half
    return json_values.unwrapped(number, value, fault)
