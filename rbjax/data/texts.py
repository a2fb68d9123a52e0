"""What is kept of every record of a split apart from its image, beside the data set.

    texts-SPLIT/
      build.txt     digest of the build that it is of; written last
      prompts.txt   the prompts one after the other, without a mark between them, in UTF-8
      ends.npy, boxed.npy, clothed.npy, sizes.npy    as in `Texts`

N records. Arrays are memory-mapped: opening them and what they hold in memory does not grow with N.
"""

import array
import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np

from rbjax.text.prompts import split_tags
from tfds_retribooru import atomic_folder

BUILD, PROMPTS = "build.txt", "prompts.txt"
COLUMNS = ("ends", "boxed", "clothed", "sizes")
Row = tuple[str, bool, bool, tuple[int, int]]  # prompt, boxed, clothed, size of a record


class Tags(Sequence):
    """The prompts of records as lists of tags, decoded when they are read."""

    def __init__(self, prompts: np.ndarray, ends: np.ndarray) -> None:
        """Takes these fields of `Texts`."""
        self._prompts, self._ends = np.asarray(prompts), np.asarray(ends)  # still mapped, but plain

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> list[str]:  # pyrefly: ignore[bad-override]  no slices
        position = range(len(self))[index]
        start = self._ends[position - 1] if position else 0
        return split_tags(bytes(self._prompts[start : self._ends[position]]).decode())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


@dataclasses.dataclass(frozen=True)
class Texts:
    """What is kept of N records, in order.

    Attributes:
        prompts: uint8 [L], the bytes of all prompts.
        ends: int64 [N], where each ends.
        boxed: bool [N], whether there is a face box.
        clothed: bool [N], whether there is one, and clothes apart from it (boxes.clothes_box).
        sizes: int32 [N, 2], width and height of the image.
    """

    prompts: np.ndarray
    ends: np.ndarray
    boxed: np.ndarray
    clothed: np.ndarray
    sizes: np.ndarray

    @property
    def tags(self) -> Tags:
        """The tags of every prompt."""
        return Tags(self.prompts, self.ends)


def of_rows(rows: Iterable[Row]) -> Texts:
    """Gathers the rows of records, in memory."""
    file = io.BytesIO()
    columns = _gather(rows, file)
    return Texts(prompts=np.frombuffer(file.getbuffer(), np.uint8), **columns)


def _gather(rows: Iterable[Row], file: BinaryIO) -> dict[str, np.ndarray]:
    """Writes the prompts to a file; returns the other fields of `Texts`."""
    length, ends = 0, array.array("q")
    boxed, clothed, sizes = bytearray(), bytearray(), array.array("i")
    for prompt, is_boxed, is_clothed, size in rows:
        length += file.write(prompt.encode())
        ends.append(length)
        boxed.append(is_boxed)
        clothed.append(is_clothed)
        sizes.extend(size)
    return {
        "ends": np.frombuffer(ends, np.int64),
        "boxed": np.frombuffer(boxed, bool),
        "clothed": np.frombuffer(clothed, bool),
        "sizes": np.frombuffer(sizes, np.int32).reshape(-1, 2),
    }


def build_of(directory: pathlib.Path) -> str:
    """Returns the digest of a data set's build."""
    return hashlib.sha256((directory / "dataset_info.json").read_bytes()).hexdigest()


def find(directory: pathlib.Path, split: str) -> Texts | None:
    """Returns what is stored of the build that is there; None: nothing, or it is damaged."""
    folder = folder_of(directory, split)
    try:
        if (folder / BUILD).read_text() != build_of(directory):
            return None
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
        path = folder / PROMPTS
        prompts = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    except (OSError, ValueError, EOFError):
        return None
    found = Texts(prompts=prompts, **columns)
    return found if len(prompts) == found.ends[-1] else None


def save(rows: Iterable[Row], directory: pathlib.Path, split: str) -> None:
    """Stores the rows of a split; they are not held in memory.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_folder.replace(folder_of(directory, split)) as folder:
        with (folder / PROMPTS).open("wb") as file:
            columns = _gather(rows, file)
        for name in COLUMNS:
            np.save(folder / f"{name}.npy", columns[name])
        (folder / BUILD).write_text(build_of(directory))


def folder_of(directory: pathlib.Path, split: str) -> pathlib.Path:
    """Returns the folder of a split's texts."""
    return directory / f"texts-{split}"


def older_rows(directory: pathlib.Path, split: str) -> list[Row] | None:
    """Returns as `find` what an older version stored: all in one file of JSON."""
    try:
        found = json.loads((directory / f"texts-{split}.json").read_text(encoding="utf-8"))
        if found["build"] != build_of(directory):
            return None
        columns = (found[name] for name in ("prompts", "boxed", "clothed", "sizes"))
        return list(zip(*columns, strict=True))
    except (OSError, ValueError, TypeError, KeyError):
        return None
