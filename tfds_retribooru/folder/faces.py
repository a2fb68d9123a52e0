"""`DIR/faces.jsonl`: the face box of each picture of a folder, by a detector or by hand.

Lines are objects {"id", "bbox", "width", "height"}: the path below DIR, and as in annotations (see
`building.records`) the box, or null, and the size, which only a box in pixels needs.
"""

import json
import pathlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from etils import epath
from PIL import Image
from tensorflow_datasets.core.utils import incomplete_file

from tfds_retribooru import images, json_stream
from tfds_retribooru.boxes import Box
from tfds_retribooru.building import records
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.images import Unreadable
from tfds_retribooru.text_files import open_binary

NAME = "faces.jsonl"


class Face(NamedTuple):
    """A line of the file.

    Attributes:
        box: a record with the box alone.
        faults: of the box; their `id` is not yet the picture's.
    """

    box: Record
    faults: list[Fault]


def read(root: pathlib.Path) -> tuple[dict[str, Face], list[Fault]]:
    """Reads the file, if there is one: (face of each id, faults of lines that cannot be used).

    Ids have composed letters, which macOS takes apart in the names of files.
    """
    path = root / NAME
    found: dict[str, Face] = {}
    bad: list[Fault] = []
    if not path.exists():
        return found, bad
    with open_binary(path) as stream:
        for line, item, fault in json_stream.read(stream):
            record = item if isinstance(item, dict) and not fault else {}
            name = record.get("id")
            if isinstance(name, str):
                name = _below(name)
            else:
                reason = "a line of the boxes is no JSON object with an id"
                bad.append(Fault("", reason, file=NAME, line=line, part="place", detail=str(item)))
                continue
            box, faults = records.parse({**record, "id": "0", "character": "0"}, NAME, line)
            if box is not None:
                found[name] = Face(box, faults)
    return found, bad


def _below(name: str) -> str:
    r"""Returns a path below the folder as ids are written, also of `./a/b.jpg` and `a\b.jpg`."""
    name = name if "/" in name else name.replace("\\", "/")
    return unicodedata.normalize("NFC", pathlib.PurePosixPath(name).as_posix())


def write(
    root: pathlib.Path, ids: Iterable[str], detect: Callable[[Image.Image], Box | None]
) -> tuple[int, int, int]:
    """Detects the faces of pictures and writes the file, at once or not at all.

    Args:
        root: the folder.
        ids: of the pictures, paths below it.
        detect: returns the face's box in an upright image, relative, or None.

    Returns:
        The numbers of pictures, of those with a face, and of those that cannot be read.
    """
    counts = [0, 0, 0]

    def lines() -> Iterator[str]:
        for name in ids:
            counts[0] += 1
            try:
                box = detect(images.decode((root / name).read_bytes()))
            except (Unreadable, OSError):  # the build names it
                counts[2] += 1
                continue
            counts[1] += box is not None
            yield json.dumps({"id": name, "bbox": box}) + "\n"

    with incomplete_file(epath.Path(root / NAME)) as partial, partial.open("w") as file:
        for line in lines():
            file.write(line)
    return counts[0], counts[1], counts[2]
