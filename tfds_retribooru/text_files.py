"""Text files as UTF-8, whatever their compression and encoding: both are told by the content."""

import bz2
import codecs
import gzip
import importlib
import json
import lzma
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO


def open_binary(path: str | pathlib.Path) -> BinaryIO:
    """Opens a file, through gzip, bz2, xz or zstd where its first bytes say so.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is zstd, and no package that reads it is installed.
    """
    stream = open(path, "rb")
    head = stream.read(6)
    stream.seek(0)
    for magic, decompress in _DECOMPRESSORS.items():
        if head.startswith(magic):
            return decompress(stream)
    return stream


def _open_zstd(stream: BinaryIO) -> BinaryIO:
    for name in ("compression.zstd", "backports.zstd"):  # the first from Python 3.14 on
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        return module.open(stream)
    raise ValueError(
        f"{stream.name} is compressed by zstd: pip install backports.zstd, or unpack the file"
    )


_DECOMPRESSORS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _open_zstd,
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
