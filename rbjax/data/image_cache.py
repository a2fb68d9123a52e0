"""The crops of a split's images, from the records or from a cache of decoded images.

Decoding the images of a small model's update takes as long as the update. With the cache, they are
decoded once and kept beside the data set, entire and at their size, so that one cache serves every
size, view and jitter, and crops are the same with and without it:

    pictures-SPLIT.bin   the pixels of each record's image, uint8 [H, W, 3], then of its mask [H, W]
                         and of its face and clothes [h, w, 3], where there are such
    pictures-SPLIT.npz   where each begins, shapes and boxes; it is written last

For large data sets (`cache=False`) images are decoded each time.
"""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tqdm
from etils import epath
from PIL import Image
from tensorflow_datasets.core.utils import incomplete_file

from rbjax.data import bad_records, crops, disk_space, images
from rbjax.data.bad_records import BadRecord
from rbjax.data.crops import Change, record_change
from rbjax.data.dataset import Split
from rbjax.text.concepts import CHARACTER, CLOTHES
from tfds_retribooru.array_record import IMAGES
from tfds_retribooru.threads import map_in_order

WITHOUT_CACHE = "decode images when they are needed, --config.data.cache=False"
FRAMES = {"face": "frame", "clothes": "clothes_frame"}  # what is kept in more pixels, its frame
SAMPLED = 16  # records by whose size that of the cache is estimated


class ConceptCrops:
    """`crops[i, concept]` is the crop of a concept from record i: uint8 [size, size, 3].

    Attributes:
        split: of the records.
        size: in pixels.
        view: see `crops.crop_concept`.
        plain: how `crops[i, concept]` differs from the concept's box: its background may be blank.
        rates: of the changes that `crops[i, concept]` has instead, those of its record; None: none.
        shapes: width and height of every image as a target, int [N, 2]; None: squares of `size`.
        pictures: the cache; None: images are decoded when they are needed.
    """

    def __init__(
        self,
        split: Split,
        *,
        size: int,
        view: str,
        cache: bool,
        blank: bool = False,
        rates: Mapping[str, float] | None = None,
        shapes: np.ndarray | None = None,
    ) -> None:
        """Opens the cache, and makes it if it is not there; without `cache` only keeps settings.

        Raises:
            OSError: the cache cannot be written.
        """
        self.split, self.size, self.view = split, size, view
        self.plain, self.rates, self.shapes = Change(blank=blank), rates, shapes
        self.pictures = open_pictures(split) if cache else None

    def __getitem__(self, key: tuple[int, int]) -> np.ndarray:
        change = self.plain if self.rates is None else record_change(*key, self.rates)
        return self.crop(*key, change)

    def crop(self, index: int, concept: int, change: Change) -> np.ndarray:
        """Returns the crop of a concept from a record, changed.

        Raises:
            BadRecord: its image cannot be decoded.
        """
        record = self._record(index, concept)
        return crops.crop_concept(record, concept, size=self.size, view=self.view, change=change)

    def target(self, index: int) -> np.ndarray:
        """Returns the entire image of a record, in the shape that it has as a target: [H, W, 3].

        Raises:
            BadRecord: as `crop`.
        """
        if self.shapes is None:
            return self[index, CHARACTER]
        width, height = self.shapes[index].tolist()
        return images.cover(self._record(index, CHARACTER)["image"], (width, height))

    def following(self, index: int) -> int:
        """Returns the next position, around the split, of a target of the same shape."""
        if self.shapes is None:
            return (index + 1) % len(self.split)
        same = np.flatnonzero((self.shapes == self.shapes[index]).all(axis=1))
        return int(same[(np.searchsorted(same, index) + 1) % len(same)])

    def _record(self, index: int, concept: int) -> Mapping[str, Any]:
        records = self.split.crop_records[concept] if self.pictures is None else self.pictures
        return _decoded(self.split, records, index)


class Pictures:
    """What crops are made of, decoded: `pictures[i]` as `crops.crop_concept` reads a record."""

    def __init__(self, path: pathlib.Path) -> None:
        """Opens what `_write` wrote.

        Raises:
            OSError: the files are not there.
        """
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as index:
            self._start, self._shape, self._bbox, self._has_mask = (
                index[name] for name in ("start", "shape", "bbox", "has_mask")
            )
            none = np.zeros((len(self._start), 4))  # as caches of older data sets have it
            self._close_ups = [
                (name, index.get(frame, none), index.get(name, none[:, :2].astype(int)))
                for name, frame in FRAMES.items()
            ]
        self._path, self._pixels = path, np.memmap(path, np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (height, width), start = self._shape[index].tolist(), int(self._start[index])
        if not height:
            raise ValueError(f"as it was when {self._path} was made")
        middle = start + height * width * 3
        record = {
            "image": self._pixels[start:middle].reshape(height, width, 3),
            "bbox": self._bbox[index],
            "has_mask": bool(self._has_mask[index]),
        }
        end = middle + record["has_mask"] * height * width
        if record["has_mask"]:
            record["mask"] = self._pixels[middle:end].reshape(height, width, 1)
        for name, frames, shapes in self._close_ups:
            if frames[index].any():
                height, width = shapes[index].tolist()
                start, end = end, end + height * width * 3
                record[name] = self._pixels[start:end].reshape(height, width, 3)
                record[f"{name}_frame"] = frames[index]
        return record


def open_pictures(split: Split) -> Pictures:
    """Opens the cache of a split, and makes it if it is not there; two runs may do so at once.

    Raises:
        OSError: the directory cannot be written, or there is no room on the disk.
    """
    path = split.directory / f"pictures-{split.name}.bin"
    if not path.with_suffix(".npz").exists():
        disk_space.check(path, _estimate(split), WITHOUT_CACHE)
        try:
            _write(split, path)
        except OSError as error:
            raise OSError(
                f"images cannot be kept in {path.parent} ({error.strerror}): {WITHOUT_CACHE}"
            ) from error
    return Pictures(path)


def _decoded(split: Split, records: Any, index: int) -> Mapping[str, Any]:
    """Returns a record whose image is decoded.

    Raises:
        BadRecord: it cannot be.
    """
    with bad_records.named(split, index):
        record = records[index]
        for name in IMAGES:
            if isinstance(record.get(name), Image.Image):
                record[name].load()
    return record


def _estimate(split: Split) -> int:
    """Returns about how many bytes the images of a split have."""
    sizes = []
    for position in np.linspace(0, len(split) - 1, SAMPLED).astype(int):
        with contextlib.suppress(BadRecord):
            record = _decoded(split, split.crop_records[CLOTHES], int(position))
            sizes.append(record["image"].width * record["image"].height)
    return 4 * len(split) * sum(sizes) // max(len(sizes), 1)


def _write(split: Split, path: pathlib.Path) -> None:
    """Decodes all records on all cores, and writes the two files; bad ones have no pixels."""
    rows, skipped = [], bad_records.Skipped()

    def decode(index: int) -> Mapping[str, Any]:
        try:
            return _decoded(split, split.crop_records[CLOTHES], index)
        except BadRecord as error:
            skipped.add(error, split)
            return {"image": np.zeros((0, 0, 3), np.uint8), "bbox": np.zeros(4), "has_mask": False}

    with incomplete_file(epath.Path(path)) as partial, partial.open("wb") as file:
        done = map_in_order(decode, range(len(split)))
        for record in tqdm.tqdm(done, total=len(split), desc=f"images of {split.name}"):
            image, has_mask = np.asarray(record["image"]), bool(record.get("has_mask", True))
            file.write(np.ascontiguousarray(image).data)
            if has_mask:
                file.write(np.ascontiguousarray(record["mask"]).data)
            row = {"shape": image.shape[:2], "bbox": record["bbox"], "has_mask": has_mask}
            for name, kept in FRAMES.items():
                frame = record.get(f"{name}_frame", np.zeros(4, np.float32))
                close_up = np.asarray(record[name] if frame.any() else image[:0])
                file.write(np.ascontiguousarray(close_up).data)
                row |= {name: close_up.shape[:2], kept: frame}
            rows.append(row)
    found: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    sizes = found["shape"].prod(axis=1) * np.where(found["has_mask"], 4, 3)
    sizes += sum(3 * found[name].prod(axis=1) for name in FRAMES)
    start = np.cumsum(sizes) - sizes
    with incomplete_file(epath.Path(path.with_suffix(".npz"))) as partial, partial.open("wb") as f:
        np.savez(f, start=start, **found)
