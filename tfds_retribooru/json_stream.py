"""JSON documents out of a file that is read once, front to back: JSON lines or one long list.

Damage costs what is damaged. In JSON lines that is a line; in a list it is all from the damage on,
because nothing says where the next document begins.
"""

import codecs
import gzip
import json
import pathlib
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

import orjson

_BLOCK = 1 << 20  # characters of a list read at a time
_LONGEST = 1 << 26  # characters; a document of a list that is not closed by then is taken as damage
_SPACE = re.compile(r"[ \t\r\n]+")
_ENDS = frozenset(" \t\r\n,]")  # what may stand behind a document in a list
_NEXT = {"": "[", "[": "]", "value": ",]", ",": "", "]": ""}  # marks that may follow in a list


class Document(NamedTuple):
    """One document, or what is wrong at that place.

    Attributes:
        line: from 1, where it begins.
        value: what JSON says; the beginning of the text where it cannot be read.
        fault: "" or a reason: "bad_json" (a line), "truncated_list", "bad_utf8" (read all the same,
            with U+FFFD for what is not UTF-8).
    """

    line: int
    value: object
    fault: str = ""


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
    """Cuts a file of JSON lines into parts of about `size` bytes; a list or .gz is one part."""
    path = pathlib.Path(path)
    with open_binary(path) as stream:
        if path.suffix == ".gz" or _is_list(stream):
            return [Part(str(path))]
    result, start, newlines, ended = [], 0, 0, True
    with open(path, "rb") as stream:
        while block := stream.read(size):
            line = newlines + 1 if ended else newlines + 2  # the rest of a begun line is skipped
            result.append(Part(str(path), start, start + len(block), line))
            start, newlines, ended = (
                start + len(block),
                newlines + block.count(b"\n"),
                block.endswith(b"\n"),
            )
    return result or [Part(str(path))]


def read_part(part: Part) -> Iterator[Document]:
    """Yields the documents of a part."""
    with open_binary(part.path) as stream:
        if part.stop is None:
            yield from read(stream)
            return
        if part.start:
            stream.seek(part.start - 1)
            stream.readline()  # the rest of a line that begins before the part
        yield from _lines(stream, part.line, part.stop - stream.tell())


def read(stream: BinaryIO) -> Iterator[Document]:
    """Yields the documents of a seekable stream from its beginning."""
    return _list(stream) if _is_list(stream) else _lines(stream, 1, None)


def open_binary(path: str | pathlib.Path) -> BinaryIO:
    """Opens a file, through gzip where the name ends in .gz."""
    return cast(BinaryIO, gzip.open(path)) if str(path).endswith(".gz") else open(path, "rb")


def _is_list(stream: BinaryIO) -> bool:
    head = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    stream.seek(0)
    return head.startswith(b"[")


def _lines(stream: BinaryIO, first: int, size: int | None) -> Iterator[Document]:
    """Yields the lines that begin in the next `size` bytes; empty ones are counted only."""
    remaining = float("inf") if size is None else size
    for number, line in enumerate(stream, first):
        if remaining <= 0:
            return
        remaining -= len(line)
        text = line.strip(b"\xef\xbb\xbf \t\r\n,")
        if text:
            yield _parse(number, text)


def _parse(number: int, text: bytes) -> Document:
    try:
        return Document(number, orjson.loads(text))
    except orjson.JSONDecodeError:
        readable = text.decode("utf-8", "replace")
    try:
        value = json.loads(readable)  # also reads NaN, and halves of surrogate pairs
    except (ValueError, RecursionError):
        return Document(number, readable[:80], "bad_json")
    return Document(number, value, "bad_utf8" if "\ufffd" in readable else "")


def _list(stream: BinaryIO) -> Iterator[Document]:
    """Yields the elements of a JSON list, holding one block of text at a time."""
    decoder, utf8 = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")("replace")
    text, position, line, before = "", 0, 1, ""
    while True:
        block = stream.read(max(_BLOCK, len(text) - position))  # doubles while a document is open
        text, position = text[position:] + utf8.decode(block, final=not block), 0
        while True:
            if space := _SPACE.match(text, position):
                line += text.count("\n", position, space.end())
                position = space.end()
            if position == len(text):
                break
            if text[position] in _NEXT[before]:
                before, position = text[position], position + 1
                continue
            if before not in ("[", ","):
                break
            try:
                value, end = decoder.raw_decode(text, position)
            except (ValueError, RecursionError):
                break
            if block and text[end : end + 1] not in _ENDS:  # a number may go on
                break
            yield Document(line, value, "bad_utf8" if "\ufffd" in text[position:end] else "")
            line, position, before = line + text.count("\n", position, end), end, "value"
        if not block or len(text) - position > _LONGEST:
            if before != "]" or position < len(text):
                yield Document(line, text[position : position + 80], "truncated_list")
            return
