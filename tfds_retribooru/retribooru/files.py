"""Where a record's picture and mask lie, in the layouts of Danbooru20xx or flat.

images/{original,512px}/BUCKET/ID.EXT, images/BUCKET/ID.EXT or images/ID.EXT, where BUCKET is ID
mod 1000 in four digits; masks/ID.png. An original is preferred to its 512px version. Ids are plain
file names (tfds_retribooru/records.py), so nothing outside the folder is ever read.
"""

import pathlib

from tfds_retribooru.records import Record

EXTENSIONS = ("jpg", "png", "jpeg", "webp", "gif", "avif", "bmp", "tif", "tiff")
FOLDERS = ("original", "512px", "")


def locate(root: pathlib.Path, record: Record) -> tuple[pathlib.Path | None, pathlib.Path | None]:
    """(picture, mask) of a record under `root`; None where there is no file."""
    mask = root / "masks" / f"{record.id}.png"
    return _image(root / "images", record), mask if mask.is_file() else None


def _image(images: pathlib.Path, record: Record) -> pathlib.Path | None:
    first = [record.extension] if record.extension else []
    endings = [*first, *(e for e in EXTENSIONS if e not in first)]
    buckets = [f"{int(record.id) % 1000:04d}"] if record.id.isdecimal() else []
    for folder in FOLDERS:
        for bucket in [*buckets, ""]:
            for ending in endings:
                path = images / folder / bucket / f"{record.id}.{ending}"
                if path.is_file():
                    return path
    return None
