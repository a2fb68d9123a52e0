"""Small crops of every image, made once and kept beside the data set (a memory-mapped file).

At 48 px an update takes as long as decoding its images would; with the cache, a batch is a few
copies. For full-size training (`cache=False`) the same crops are made from the record each time.
"""

import math
import pathlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tqdm
from etils import epath
from tensorflow_datasets.core.utils import incomplete_file

from rbjax.data import crops, disk_space
from rbjax.data.dataset import Split
from rbjax.text.concepts import CLOTHES, CONCEPTS

WITHOUT_CACHE = "decode images when they are needed, --config.data.cache=False"


class ConceptCrops:
    """`crops[i, concept]` is the crop of a concept from record i: uint8 [size, size, 3].

    Attributes:
        split: of the records.
        size: in pixels.
        view: see `crops.crop_concept`.
        array: uint8 [N, 3, size, size, 3], memory-mapped; None without a cache.
    """

    def __init__(self, split: Split, *, size: int, view: str, cache: bool) -> None:
        """Opens the cache, and makes it if it is not there; without `cache` only keeps settings.

        Raises:
            OSError: the cache cannot be written.
        """
        self.split, self.size, self.view = split, size, view
        self.array = self._open() if cache else None

    def __getitem__(self, key: tuple[int, int]) -> np.ndarray:
        index, concept = key
        if self.array is not None:
            return self.array[index, concept]
        return self._crop(self.split.crop_records[concept][index], concept)

    def _crop(self, record: Mapping[str, Any], concept: int) -> np.ndarray:
        return crops.crop_concept(record, concept, size=self.size, view=self.view)

    def _open(self) -> np.ndarray:
        name = f"views-{self.split.name}-{self.size}-{self.view}.npy"
        path = self.split.directory / name
        if not path.exists():
            self._write(path)
        return np.load(path, mmap_mode="r")

    def _write(self, path: pathlib.Path) -> None:
        """Writes the file; two runs may do so at once.

        Raises:
            OSError: the directory cannot be written, or there is no room on the disk.
        """
        shape = (len(self.split), len(CONCEPTS), self.size, self.size, 3)
        disk_space.check(path, math.prod(shape), WITHOUT_CACHE)
        with incomplete_file(epath.Path(path)) as partial:
            self._fill(_new_array(partial, shape))

    def _fill(self, array: np.memmap) -> None:
        """Makes the crops of all records, on all cores."""

        def fill(index: int) -> None:
            record = self.split.crop_records[CLOTHES][index]
            for concept in range(len(CONCEPTS)):
                array[index, concept] = self._crop(record, concept)

        with ThreadPoolExecutor() as pool:
            done = pool.map(fill, range(len(self.split)), chunksize=64)
            description = f"crops of {self.split.name} at {self.size} px"
            for _ in tqdm.tqdm(done, total=len(self.split), desc=description):
                pass
        array.flush()


def _new_array(path: epath.Path, shape: tuple[int, ...]) -> np.memmap:
    try:
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        raise OSError(
            f"crops cannot be kept in {path.parent} ({error.strerror}): {WITHOUT_CACHE}"
        ) from error
