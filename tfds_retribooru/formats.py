"""Which files are images: by a usual ending, in any case, or by their first bytes."""

import pathlib

EXTENSIONS = ("jpg", "png", "jpeg", "webp", "gif", "avif", "bmp", "tif", "tiff")
UNUSUAL = ("jfif", "jpe", "jif", "pjpeg", "pjp", "apng")  # endings of these formats, too

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
_SIGNATURES_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_UNREAD = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}


def has_image_extension(name: str) -> bool:
    """Returns whether a file's name ends like an image's."""
    return name.rpartition(".")[2].lower() in EXTENSIONS


def has_known_extension(name: str) -> bool:
    """Returns whether a file's name ends like an image's, in a usual way or in an unusual one."""
    return name.rpartition(".")[2].lower() in (*EXTENSIONS, *UNUSUAL)


def is_image(path: pathlib.Path) -> bool:
    """Returns whether the first bytes of a file are an image's; False if it cannot be opened.

    Images of formats that are not read count too, so that they are refused by name.
    """
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError:
        return False
    return (
        start.startswith(_SIGNATURES + _SIGNATURES_TIFF)
        or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and any(brand in start for brand in _AVIF_BRANDS))
        or bool(unread_format(start))
        or (start.startswith(b"BM") and start[6:10] == bytes(4))  # two letters would be text, too
    )


def optional_format(start: bytes) -> str:
    """Returns Pillow's name of a format that not every Pillow reads, by an image's first bytes."""
    if start[4:8] == b"ftyp" and any(brand in start[8:32] for brand in _AVIF_BRANDS):
        return "avif"
    return "webp" if start.startswith(b"RIFF") and start[8:12] == b"WEBP" else ""


def unread_format(start: bytes) -> str:
    """Returns the name of an image's format that is not read, by its first bytes; "" for others."""
    if start[4:8] == b"ftyp" and not any(brand in start[8:32] for brand in _AVIF_BRANDS):
        return "HEIC" if start[8:12] in _HEIF_BRANDS else ""
    return next((name for magic, name in _UNREAD.items() if start.startswith(magic)), "")
