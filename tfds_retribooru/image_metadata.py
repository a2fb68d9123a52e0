"""Image files without the metadata that can keep Pillow from decoding them.

Pillow reads metadata with the pixels: a checksum, a size or a type that is wrong there costs it the
image. Nothing is written back to a file; only copies in memory are changed.
"""

import re
import zlib
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE = 16 << 20  # bytes of a colour profile; Pillow reads 1 MiB of a compressed one

_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts that may hold it
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_ORIENTATION = 1 << 16  # bytes of metadata with an orientation in it
_AVIF_EXIF_ITEM = re.compile(rb"(infe\x02.{3}.{4})Exif", re.DOTALL)


def strip(data: bytes) -> tuple[bytes, bytes | None]:
    """Returns a file's bytes without the metadata that pixels do not need.

    Args:
        data: of a PNG, JPEG or AVIF file; others are returned as they are.

    Returns:
        The bytes, and the colour profile if it was among what was left out, else None.
    """
    if data.startswith(PNG_SIGNATURE):
        return _strip_png(data)
    if data.startswith(b"\xff\xd8"):
        return b"".join(_jpeg_segments(data)), None
    return _AVIF_EXIF_ITEM.sub(rb"\1skip", data) if data[4:8] == b"ftyp" else data, None


def _strip_png(data: bytes) -> tuple[bytes, bytes | None]:
    """Keeps pixels and orientation."""
    kept, profile = [PNG_SIGNATURE], None
    position = len(PNG_SIGNATURE)
    while position < len(data):
        kind = data[position + 4 : position + 8]
        size = int.from_bytes(data[position : position + 4], "big")
        chunk, position = data[position : position + size + 12], position + size + 12
        body = memoryview(chunk)[8:-4]
        if kind == b"iCCP":
            profile = _png_profile(bytes(body))
        elif kind in _PNG_PIXELS or _has_orientation(kind, body, chunk[-4:]):
            kept.append(chunk)
    return b"".join(kept), profile


def _png_profile(body: bytes) -> bytes | None:
    """Returns the profile in a chunk: a name, a zero byte, the method's byte, the compressed."""
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(body[body.index(b"\0") + 2 :], MAX_PROFILE)
    except (ValueError, zlib.error):
        return None
    return profile if unpacker.eof else None


def _has_orientation(kind: bytes, body: memoryview, checksum: bytes) -> bool:
    if len(body) > _MAX_ORIENTATION or zlib.crc32(kind + body) != int.from_bytes(checksum, "big"):
        return False
    return kind == b"eXIf" or (kind in _PNG_TEXTS and bytes(body[:32]).startswith(_PNG_ORIENTATION))


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """Yields a JPEG without application segments and comments, but EXIF, profile and Adobe's."""
    yield data[:2]
    position = 2
    while position + 1 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xDA:  # the pixels follow, to the end
            break
        size = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment, position = data[position : position + size], position + size
        body = segment[4:]
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            yield segment
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            yield segment
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            yield segment
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            yield segment  # the colour space of the pixels
    yield data[position:]
