"""Small crops of every image, made once and kept beside the data set (a memory-mapped file).

At 48 px an update takes as long as decoding its images would; with the cache, a batch is a few
copies. For full-size training (`cache=False`) the same crops are made from the record each time.
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


class ConceptCrops:
    """`crops[i, concept]` is the crop of a concept from record i: uint8 [size, size, 3].

    Attributes:
        split: of the records.
        size: in pixels.
        view: see `crops.crop_concept`.
        array: uint8 [N, 3, size, size, 3], memory-mapped; None without a cache.
    """

    def __init__(self, split: Split, *, size: int, view: str, cache: bool) -> None:
        """Opens the cache, if one is asked for; makes it if it is not there.

        Raises:
            OSError: the cache cannot be written.
        """
        self.split, self.size, self.view = split, size, view
        self.array = _open(split, size, view) if cache else None

    def __getitem__(self, key: tuple[int, int]) -> np.ndarray:
        index, concept = key
        if self.array is not None:
            return self.array[index, concept]
        record = self.split.crop_records[concept][index]
        return crops.crop_concept(record, concept, size=self.size, view=self.view)


def _open(split: Split, size: int, view: str) -> np.ndarray:
    path = split.directory / f"views-{split.name}-{size}-{view}.npy"
    if not path.exists():
        _write(path, split, size, view)
    return np.load(path, mmap_mode="r")


def _write(path: pathlib.Path, split: Split, size: int, view: str) -> None:
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
            "decode images when they are needed, --config.data.cache=False"
        )
    with incomplete_file(epath.Path(path)) as partial:
        _fill(_new_array(partial, shape), split, size, view)


def _new_array(path: epath.Path, shape: tuple[int, ...]) -> np.memmap:
    try:
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        raise OSError(
            f"crops cannot be kept in {path.parent} ({error.strerror}): decode images when they "
            "are needed, --config.data.cache=False"
        ) from error


def _fill(array: np.memmap, split: Split, size: int, view: str) -> None:
    """Makes the crops of all records, on all cores."""

    def fill(index: int) -> None:
        record = split.crop_records[CLOTHES][index]
        for concept in range(len(CONCEPTS)):
            array[index, concept] = crops.crop_concept(record, concept, size=size, view=view)

    with ThreadPoolExecutor() as pool:
        done = pool.map(fill, range(len(split)), chunksize=64)
        for _ in tqdm.tqdm(done, total=len(split), desc=f"crops of {split.name} at {size} px"):
            pass
    array.flush()
