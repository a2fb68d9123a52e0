"""Small views of every picture, made once and kept beside the data set (a memory-mapped file).

At 48 px a step takes as long as decoding its pictures would; with the views, a batch is a few
copies. For full-size training (`cache=False`) the same views are made from the record each time.
"""

import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tqdm

from rbjax.data import transforms
from rbjax.data.references import CLOTHES, CONCEPTS
from rbjax.data.source import Split


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
        return transforms.concept_view(record, concept, self.size, self.view)


def _cached(split: Split, size: int, view: str) -> np.ndarray:
    """uint8 [N, 3, size, size, 3], memory-mapped; made if it is not there."""
    path = split.directory / f"views-{split.name}-{size}-{view}.npy"
    if not path.exists():
        _write(split, size, view, path)
    return np.load(path, mmap_mode="r")


def _write(split: Split, size: int, view: str, path: pathlib.Path) -> None:
    """Writes under another name first, so that an interrupted run leaves no half file."""
    shape = (len(split), len(CONCEPTS), size, size, 3)
    partial = path.with_suffix(".partial")
    array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)

    def fill(index: int) -> None:
        record = split.shown[CLOTHES][index]
        for concept in range(len(CONCEPTS)):
            array[index, concept] = transforms.concept_view(record, concept, size, view)

    with ThreadPoolExecutor() as pool:
        done = pool.map(fill, range(len(split)), chunksize=64)
        for _ in tqdm.tqdm(done, total=len(split), desc=f"views of {split.name} at {size} px"):
            pass
    array.flush()
    partial.rename(path)
