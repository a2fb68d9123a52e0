"""What frozen encoders return for a split, kept beside the data set by scripts/cache_latents.py.

    moments-SPLIT-SIZE-VIEW-PRINT/
      fingerprint.json   what the content depends on; PRINT is short for it
      moments.npy        float16 [N, 3, h, w, 2C]: mean and log variance of each concept's crop;
                         zeros for the face and clothes of a record without a box
      target-WxH.npy     float16 [K, h, w, 2C] of the targets of this shape, in the order of the
                         records, where targets have shapes (see `buckets`)
    text-SPLIT-TOKENS-PRINT/
      fingerprint.json
      ids.npy            int32 [M, T], the different prompts of the split
      states.npy         float16 [M, T, D], their text states
      concepts.npy       float16 [3, Tc, D], states of the concept words

Axes: N records, h w latent, C latent channels, M prompts, T tokens of a prompt, Tc of a concept
word, D text width. A folder is written under another name and renamed when it is complete.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rbjax.data import disk_space
from rbjax.parallel import distributed

PARTS = ("moments", "text")
FINGERPRINT = "fingerprint.json"
PARTIAL = ".partial"
Fingerprint = dict[str, Any]
LABELS = ("part", "split", "size", "view", "max_tokens")  # fields in a folder's name


@dataclasses.dataclass(frozen=True)
class CachedTexts:
    """Text states by token ids.

    Attributes:
        ids: as the three arrays in the module's docstring.
        states: of prompts.
        concepts: states of the concept words.
    """

    ids: np.ndarray
    states: np.ndarray
    concepts: np.ndarray

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Returns the states [T, D] of a prompt's ids [T].

        Raises:
            KeyError: no such prompt is stored.
        """
        return self.states[self._rows[ids.tobytes()]]

    @functools.cached_property
    def _rows(self) -> dict[bytes, int]:
        return {ids.tobytes(): row for row, ids in enumerate(self.ids)}


class CachedTargets:
    """`targets[i]` are the moments [h, w, 2C] of record i in the shape that it has as a target."""

    def __init__(self, folder: pathlib.Path, shapes: np.ndarray) -> None:
        """Opens the files of all shapes, int [N, 2] (width, height), memory-mapped.

        Raises:
            OSError, ValueError: one is missing or damaged.
        """
        self._arrays, self._kind, self._row = [], *_rows_of(shapes)
        for shape in np.unique(shapes, axis=0):
            self._arrays.append(np.load(folder / target_file(shape), mmap_mode="r"))

    def __getitem__(self, index: int) -> np.ndarray:
        return self._arrays[self._kind[index]][self._row[index]]


@dataclasses.dataclass(frozen=True)
class CachedLatents:
    """Outputs of encoders that are read instead of being computed; None: computed.

    Attributes:
        moments: as in the module's docstring.
        targets: moments of targets in their shapes, if they have some.
        texts: states of prompts and concept words.
    """

    moments: np.ndarray | None = None
    targets: CachedTargets | None = None
    texts: CachedTexts | None = None


def open_moments(folder: pathlib.Path) -> np.ndarray:
    """Opens float16 [N, 3, h, w, 2C], memory-mapped."""
    return np.load(folder / "moments.npy", mmap_mode="r")


def target_file(shape: np.ndarray) -> str:
    """Returns the name of the file of a shape of targets (width, height)."""
    width, height = shape.tolist()
    return f"target-{width}x{height}.npy"


def _rows_of(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of each record's shape, and its place among the records of that shape."""
    kind = np.unique(shapes, axis=0, return_inverse=True)[1].reshape(-1)
    row = np.zeros(len(kind), int)
    for k in range(kind.max() + 1):
        row[kind == k] = np.arange((kind == k).sum())
    return kind, row


def open_texts(folder: pathlib.Path) -> CachedTexts:
    """Opens text states; those of prompts are memory-mapped, the rest is read."""
    ids, concepts = np.load(folder / "ids.npy"), np.load(folder / "concepts.npy")
    return CachedTexts(ids, np.load(folder / "states.npy", mmap_mode="r"), concepts)


def digest(*files: pathlib.Path) -> str:
    """Returns 16 hexadecimal digits of the SHA-256 of files, one after the other."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def digest_shapes(shapes: np.ndarray) -> str:
    """Returns 16 hexadecimal digits of the SHA-256 of the shapes of targets, int [N, 2]."""
    return hashlib.sha256(np.ascontiguousarray(shapes, np.int32).data).hexdigest()[:16]


def digest_text(text: str) -> str:
    """Returns 16 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder_of(directory: pathlib.Path, fingerprint: Fingerprint) -> pathlib.Path:
    """Returns the folder beside a data set that belongs to a fingerprint."""
    labels = [str(fingerprint[name]) for name in LABELS if name in fingerprint]
    short = digest_text(json.dumps(fingerprint, sort_keys=True))[:8]
    return directory / "-".join([*labels, short])


def folders(directory: pathlib.Path, part: str) -> list[pathlib.Path]:
    """Returns the complete folders of a part beside a data set, whatever their fingerprints."""
    found = sorted(path.parent for path in directory.glob(f"{part}-*/{FINGERPRINT}"))
    return [folder for folder in found if folder.suffix != PARTIAL]


def size(folder: pathlib.Path) -> int:
    """Returns the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


def mismatch(directory: pathlib.Path, fingerprint: Fingerprint) -> str:
    """Returns why no folder beside the data set has this fingerprint; "" if one has.

    Names the folder that comes closest, and the fields in which it differs.
    """
    if _read_fingerprint(folder_of(directory, fingerprint)) == fingerprint:
        return ""
    part = fingerprint["part"]
    found = {folder: _read_fingerprint(folder) for folder in folders(directory, part)}
    if not found:
        return "none is stored"
    different = {
        folder: [
            f"{name} {old.get(name)} there, {fingerprint.get(name)} now"
            for name in sorted(old.keys() | fingerprint.keys())
            if old.get(name) != fingerprint.get(name)
        ]
        for folder, old in found.items()
    }
    closest = min(different, key=lambda folder: len(different[folder]))
    return f"{closest.name} does not fit: {'; '.join(different[closest])}"


def _read_fingerprint(folder: pathlib.Path) -> Fingerprint:
    """Returns {}, which fits nothing, where there is none or it is damaged."""
    path = folder / FINGERPRINT
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError:
        return {}


@contextlib.contextmanager
def incomplete_folder(
    folder: pathlib.Path, fingerprint: Fingerprint, size: int
) -> Iterator[pathlib.Path]:
    """Yields a folder to write into, which gets its name when the block ends without an error.

    Of several processes the first makes it.

    Args:
        folder: final name; the incomplete folder of an interrupted run is removed.
        fingerprint: written into it at the end.
        size: bytes that will be written.

    Raises:
        OSError: the disk has less space.
    """
    partial = folder.with_name(folder.name + PARTIAL)
    with distributed.primary_first():
        if distributed.is_primary():
            shutil.rmtree(partial, ignore_errors=True)
            remedy = "move the data set and give its new place with --config.data_dir"
            disk_space.check(folder, size, remedy)
            partial.mkdir()
    yield partial
    if not distributed.is_primary():
        return
    (partial / FINGERPRINT).write_text(json.dumps(fingerprint, indent=1))
    shutil.rmtree(folder, ignore_errors=True)  # its fingerprint was damaged
    partial.rename(folder)


def write_ids(folder: pathlib.Path, ids: np.ndarray) -> None:
    """Writes the different prompts of a split, int32 [M, T]; of several processes the first."""
    if distributed.is_primary():
        np.save(folder / "ids.npy", ids)


def write_array(
    path: pathlib.Path, shape: tuple[int, ...], rows: Iterable[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Writes a float16 array batch by batch; the elements of no batch stay zero.

    Of several processes, which all have to go through the batches, the first writes.

    Args:
        path: of the npy file.
        shape: of the array.
        rows: batches of (indices [B, k] into the first k axes, values [B, ...]).
    """
    if not distributed.is_primary():
        collections.deque(rows, maxlen=0)
        return
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    for indices, values in rows:
        array[tuple(indices.T)] = values
    array.flush()
