"""Where a record's image and mask lie, in the layouts of Danbooru20xx or flat.

images/{original,512px}/BUCKET/ID.EXT, images/BUCKET/ID.EXT or images/ID.EXT, where BUCKET is ID
mod 1000 in four digits; masks/ID.png. An original is preferred to its 512px version. Ids are plain
file names (tfds_retribooru/building/records.py), so nothing outside the folder is ever read.
"""

import itertools
import os
import pathlib

from tfds_retribooru.building.records import Record
from tfds_retribooru.images import EXTENSIONS

FOLDERS = ("original", "512px", "")


def locate(root: pathlib.Path, record: Record) -> tuple[pathlib.Path | None, pathlib.Path | None]:
    """Returns the paths of a record's image and mask under `root`; None where there is no file."""
    mask = root / "masks" / f"{record.id}.png"
    image = find_image(root / "images", record.id, record.extension)
    return image, mask if mask.is_file() else None


def find_image(images: pathlib.Path, name: str, extension: str = "") -> pathlib.Path | None:
    """Returns the image of an id, or None; the ending that the metadata says is tried first."""
    endings = dict.fromkeys([extension, *EXTENSIONS] if extension else EXTENSIONS)
    buckets = [f"{int(name) % 1000:04d}", ""] if name.isdecimal() else [""]
    for place in itertools.product(FOLDERS, buckets):
        folder = os.path.join(images, *place)
        if os.path.isdir(folder):  # else every ending would be looked up in vain
            paths = (os.path.join(folder, f"{name}.{ending}") for ending in endings)
            found = next(filter(os.path.isfile, paths), None)
            if found is not None:
                return pathlib.Path(found)
    return None
