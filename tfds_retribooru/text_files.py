"""Text files as UTF-8, whatever their compression and encoding: both are told by the content."""

import bz2
import codecs
import gzip
import importlib
import io
import json
import lzma
import pathlib
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from tfds_retribooru import formats

_BLOCK = 1 << 20  # bytes of an archive's file that are read at a time


def read_text(path: str | pathlib.Path) -> str:
    """Reads a small text that people write: UTF-8, UTF-16 or UTF-32, with a byte order mark or not.

    Raises:
        OSError: it cannot be opened.
        UnicodeDecodeError: it is in another encoding.
    """
    data = pathlib.Path(path).read_bytes()
    return data.decode(json.detect_encoding(data))


def open_binary(path: str | pathlib.Path) -> BinaryIO:
    """Opens a file, through gzip, bz2, xz or zstd where its first bytes say so.

    Of an archive (tar or zip, compressed or not) all files are read, one behind the other, but
    images and hidden ones.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is zstd, and no package that reads it is installed.
    """
    return _unpacked(open(path, "rb"))


def _unpacked(stream: Any) -> BinaryIO:
    """Returns a stream of what is compressed in a stream, as often as it is, or archived."""
    while True:
        try:
            head = stream.peek(512)
        except Exception:  # of a damaged file: its decompressor says so again when it is read
            return stream
        if files := _archive(head):
            return io.BufferedReader(_Chunks(_contents(files(stream))))
        opener = next((f for magic, f in _DECOMPRESSORS.items() if head.startswith(magic)), None)
        if opener is None:
            return stream
        stream = opener(stream)


_BESIDE = (".txt", ".caption", ".cls", ".mp4", ".webm")  # pictures, in shards of webdataset


def _archive(head: bytes) -> Callable[[BinaryIO], Iterator[BinaryIO]] | None:
    """Returns what opens the files of an archive; None for the first bytes of others."""
    if head[257:262] == b"ustar":
        return _tar_files
    return _zip_files if head.startswith(b"PK\x03\x04") else None


def _tar_files(stream: BinaryIO) -> Iterator[BinaryIO]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isreg() and _is_text(member.name):  # what links lead to is read where it is
                yield archive.extractfile(member)  # pyrefly: ignore[invalid-yield]


def _zip_files(stream: BinaryIO) -> Iterator[BinaryIO]:
    try:
        held = stream if stream.seekable() else io.BytesIO(stream.read())
    except AttributeError:  # of tarfile's streams in Python 3.11
        held = io.BytesIO(stream.read())
    with zipfile.ZipFile(held) as archive:
        for member in archive.infolist():
            if not member.is_dir() and _is_text(member.filename):
                yield archive.open(member)  # pyrefly: ignore[invalid-yield]


def _is_text(name: str) -> bool:
    path = pathlib.PurePosixPath(name)
    is_hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    is_other = formats.has_image_extension(name) or path.suffix.lower() in _BESIDE
    return not (is_hidden or is_other)


def _contents(files: Iterator[BinaryIO]) -> Iterator[bytes]:
    """Yields what the files of an archive hold as UTF-8, each with a line's end behind it."""
    for file in files:
        source = Utf8Source(_unpacked(file), _BLOCK)
        while data := source.take(_BLOCK):
            yield data
        if source.damage:
            raise ValueError(source.damage)
        yield b"\n"


class _Chunks(io.RawIOBase):
    """Bytes of an iterator as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks, self._held = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._held = self._held or next(self._chunks, b"")
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size


def _open_zstd(stream: BinaryIO) -> BinaryIO:
    for name in ("compression.zstd", "backports.zstd"):  # the first from Python 3.14 on
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        return module.open(stream)
    name = getattr(stream, "name", "a file in an archive")
    raise ValueError(
        f"{name} is compressed by zstd: pip install backports.zstd, or unpack the file"
    )


_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"]\0\0": lzma.open,  # xz's older format
    b"\x28\xb5\x2f\xfd": _open_zstd,
}
_DECOMPRESSORS |= {  # frames to skip, with which pzstd begins
    bytes([0x50 + k]) + b"\x2a\x4d\x18": _open_zstd for k in range(16)
}


class Utf8Source:
    """A stream as UTF-8: by lines or by blocks, some of which can be given back.

    UTF-16 and UTF-32 (with a byte order mark or without) are converted; what is damaged in them
    becomes a byte that is not UTF-8.

    Attributes:
        damage: what a decompressor said where it had to stop; "" if it did not.
        ended: whether nothing follows what is held.
        position: number of bytes that were handed out and not given back.
        block: number of bytes that are read at a time.
    """

    def __init__(self, stream: BinaryIO, block: int) -> None:
        """Reads `stream` from where it is, `block` bytes at a time."""
        self.damage, self.ended, self.position = "", False, 0
        self._stream, self.block = stream, block
        self._held, self._at = b"", 0
        head = b""
        while len(head) < 4 and (data := self._read()):
            head += data
        encoding = json.detect_encoding(head)
        self._decoder = None
        if not encoding.startswith("utf-8"):
            self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._held = self._utf8(head)

    def readline(self) -> bytes:
        """Returns the next line, or a block of a longer one; b"" at the end."""
        while not (end := self._held.find(b"\n", self._at) + 1):
            if len(self._held) - self._at >= self.block or not self._fill():
                end = len(self._held)
                break
        return self._hand_out(end)

    def take(self, size: int) -> bytes:
        """Returns from 1 to `size` of the next bytes; b"" at the end."""
        while self._at == len(self._held) and self._fill():
            pass
        return self._hand_out(min(self._at + size, len(self._held)))

    def give_back(self, data: bytes) -> None:
        """Takes back the last bytes that were handed out."""
        self.position -= len(data)
        if len(data) <= self._at:
            self._at -= len(data)
        else:
            self._held, self._at = data + self._held[self._at :], 0

    def drop(self) -> None:
        """Drops what was not handed out yet."""
        self.ended, self._held, self._at = True, b"", 0

    def _hand_out(self, end: int) -> bytes:
        data = self._held[self._at : end]
        self._at = end
        self.position += len(data)
        return data

    def _fill(self) -> bool:
        if self.ended:
            return False
        data = self._read()
        self.ended = not data
        self._held, self._at = self._held[self._at :] + self._utf8(data), 0
        return True

    def _read(self) -> bytes:
        try:
            return self._stream.read1(self.block)  # pyrefly: ignore[missing-attribute]  # all have
        except Exception as error:  # every decompressor raises kinds of its own
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            self.damage = str(error) or type(error).__name__
            return b""

    def _utf8(self, data: bytes) -> bytes:
        if self._decoder is None:
            return data
        text = self._decoder.decode(data, final=not data)
        return text.encode().replace("\ufffd".encode(), b"\xff")
