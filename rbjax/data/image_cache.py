"""Small views of every picture, made once and kept beside the data set (a memory-mapped file).

At 48 px a step takes as long as decoding its pictures would; with the views, a batch is a few
copies. For full-size training (`cache=False`) the same views are made from the record each time.
"""

import math
import pathlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tqdm
from etils import epath
from tensorflow_datasets.core.utils import incomplete_file

from rbjax.data import crops
from rbjax.data.dataset import Split
from rbjax.text.concepts import CLOTHES, CONCEPTS


class Views:
    """`views[i, concept]` is what record i shows of a concept: uint8 [size, size, 3]."""

    def __init__(self, split: Split, size: int, view: str, cache: bool):
        self.split, self.size, self.view = split, size, view
        self.array = _cached(split, size, view) if cache else None

    def __getitem__(self, key: tuple[int, int]) -> np.ndarray:
        index, concept = key
        if self.array is not None:
            return self.array[index, concept]
        record = self.split.shown[concept][index]
        return crops.concept_view(record, concept, self.size, self.view)


def _cached(split: Split, size: int, view: str) -> np.ndarray:
    """uint8 [N, 3, size, size, 3], memory-mapped; made if it is not there."""
    path = split.directory / f"views-{split.name}-{size}-{view}.npy"
    if not path.exists():
        _write(split, size, view, path)
    return np.load(path, mmap_mode="r")


def _write(split: Split, size: int, view: str, path: pathlib.Path) -> None:
    """Writes the file; two runs may do so at once.

    Raises:
        OSError: the directory cannot be written, or there is no room on the disk (a memory map
            would end the process without a word).
    """
    shape = (len(split), len(CONCEPTS), size, size, 3)
    needed, free = math.prod(shape), shutil.disk_usage(path.parent).free
    if free < needed:
        raise OSError(
            f"{path} needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free: make room, or "
            "decode pictures when they are needed, --config.data.cache=False"
        )
    with incomplete_file(epath.Path(path)) as partial:
        _fill(split, size, view, _new_array(partial, shape))


def _new_array(path: epath.Path, shape: tuple[int, ...]) -> np.memmap:
    try:
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        raise OSError(
            f"views cannot be kept in {path.parent} ({error.strerror}): decode pictures when they "
            "are needed, --config.data.cache=False"
        ) from error


def _fill(split: Split, size: int, view: str, array: np.memmap) -> None:
    """Makes the views of all records, on all cores."""

    def fill(index: int) -> None:
        record = split.shown[CLOTHES][index]
        for concept in range(len(CONCEPTS)):
            array[index, concept] = crops.concept_view(record, concept, size, view)

    with ThreadPoolExecutor() as pool:
        done = pool.map(fill, range(len(split)), chunksize=64)
        for _ in tqdm.tqdm(done, total=len(split), desc=f"views of {split.name} at {size} px"):
            pass
    array.flush()
