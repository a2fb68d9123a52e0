"""Which files are images: by a usual ending, in any case, or by their first bytes."""

import pathlib

EXTENSIONS = ("jpg", "png", "jpeg", "webp", "gif", "avif", "bmp", "tif", "tiff")

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
_SIGNATURES_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AVIF_BRANDS = (b"avif", b"avis")


def has_image_extension(name: str) -> bool:
    """Returns whether a file's name ends like an image's."""
    return name.rpartition(".")[2].lower() in EXTENSIONS


def is_image(path: pathlib.Path) -> bool:
    """Returns whether the first bytes of a file are an image's; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError:
        return False
    return (
        start.startswith(_SIGNATURES + _SIGNATURES_TIFF)
        or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and any(brand in start for brand in _AVIF_BRANDS))
        or (start.startswith(b"BM") and start[6:10] == bytes(4))  # two letters would be text, too
    )
