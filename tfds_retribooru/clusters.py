"""Identity and outfit clusters of a split, as flat arrays that answer in constant time.

An image is its position in `builder.as_data_source(split)`. Identity is the character; an outfit
is a connected component of the `similar` lists within one character, so an image that names no
partner is an outfit of its own. Images sorted by (character, outfit) stand in `order`; a
character, and an outfit within it, is a range of `order`. So "images of this character in another
outfit" are two ranges, however many there are:

    start, stop = character_start[c], character_start[c + 1]      # the character
    a, b = outfit_start[o], outfit_start[o + 1]                   # start <= a < b <= stop
    order[start:a], order[b:stop]                                 # its other outfits
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from scipy import sparse
from scipy.sparse import csgraph
from tensorflow_datasets.core.utils import incomplete_file

from tfds_retribooru import array_record, variants

Range = tuple[int, int]  # start, stop in `Clusters.order`


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Clusters of N images, C characters, O outfits.

    Attributes:
        character: int32 [N], image -> character.
        outfit: int32 [N], image -> outfit; the outfits of a character have neighbouring numbers.
        order: int32 [N], images sorted by character, outfit, position.
        rank: int32 [N], the inverse: order[rank[i]] == i.
        character_start: int32 [C + 1], ranges into order.
        outfit_start: int32 [O + 1], ranges into order.
        similar_start: int64 [N + 1], ranges into similar.
        similar: int32 [M], the `similar` lists as they are recorded, without links that leave the
            split or the character.
        names: str [C], of the characters.
        variant: int32 [N], image -> the first image of its variant set (see `variants`): none of
            them is a reference of another. In a data set of an older version each is its own.
    """

    character: np.ndarray
    outfit: np.ndarray
    order: np.ndarray
    rank: np.ndarray
    character_start: np.ndarray
    outfit_start: np.ndarray
    similar_start: np.ndarray
    similar: np.ndarray
    names: np.ndarray
    variant: np.ndarray

    def __len__(self) -> int:
        return len(self.character)

    def same_character(self, image: int) -> np.ndarray:
        """Returns all images of the character, the image itself too: a view of `order`."""
        return self.order[slice(*self.character_range(image))]

    def same_outfit(self, image: int) -> np.ndarray:
        """Returns all images of the outfit, the image itself too: a view of `order`."""
        return self.order[slice(*self.outfit_range(image))]

    def other_outfits(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns all images of the character in other outfits, as two views of `order`."""
        before, after = self.other_outfit_ranges(image)
        return self.order[slice(*before)], self.order[slice(*after)]

    def variants_of(self, image: int) -> np.ndarray:
        """Returns all images of the variant set, the image itself too: int [at least 1]."""
        order, start = self._by_variant
        return order[start[self.variant[image]] : start[self.variant[image] + 1]]

    @property
    def variant_set_sizes(self) -> np.ndarray:
        """The number of images of each variant set of several images: int [V]."""
        sizes = np.bincount(self.variant, minlength=1)
        return sizes[sizes > 1]

    @functools.cached_property
    def _by_variant(self) -> tuple[np.ndarray, np.ndarray]:
        """The images sorted by variant set, and where that of each number begins: [N + 1]."""
        order = np.argsort(self.variant, kind="stable")
        return order, np.searchsorted(self.variant[order], np.arange(len(self) + 1))

    def similar_to(self, image: int) -> np.ndarray:
        """Returns the image's `similar` list, as positions."""
        return self.similar[self.similar_start[image] : self.similar_start[image + 1]]

    def character_range(self, image: int) -> Range:
        """Returns where in `order` the images of the character are."""
        return _range(self.character_start, self.character[image])

    def outfit_range(self, image: int) -> Range:
        """Returns where in `order` the images of the outfit are."""
        return _range(self.outfit_start, self.outfit[image])

    def other_outfit_ranges(self, image: int) -> tuple[Range, Range]:
        """Returns where in `order` the images of the character in other outfits are."""
        character, outfit = self.character_range(image), self.outfit_range(image)
        return (character[0], outfit[0]), (outfit[1], character[1])

    def restricted(self, keep: np.ndarray) -> "Clusters":
        """Returns the same clusters with only the images of `keep`, bool [N], in `order`.

        Positions, characters and outfits keep their numbers; a range of `order` may be empty. The
        rank of an image that is not kept is -1.
        """
        kept = keep[self.order]
        before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
        order = self.order[kept]
        rank = np.full(len(self), -1, np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return dataclasses.replace(
            self,
            order=order,
            rank=rank,
            character_start=before[self.character_start],
            outfit_start=before[self.outfit_start],
        )

    def save(self, path: pathlib.Path) -> None:
        """Writes an npz file."""
        with incomplete_file(epath.Path(path)) as partial, partial.open("wb") as file:
            np.savez(file, **dataclasses.asdict(self))

    @classmethod
    def of_split(cls, directory: epath.PathLike, split: str) -> "Clusters":
        """Reads the clusters of a split in the directory of a built data set; see `load`."""
        return cls.load(_path(directory, split))

    @classmethod
    def load(cls, path: pathlib.Path) -> "Clusters":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file; the data set was not built with this package.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: build the data set again with `tfds_retribooru` imported"
            )
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
        found.setdefault("variant", np.arange(len(found["character"]), dtype=np.int32))
        return cls(**{field.name: found[field.name] for field in dataclasses.fields(cls)})


def _range(starts: np.ndarray, cluster: int) -> Range:
    return int(starts[cluster]), int(starts[cluster + 1])


def from_records(
    ids: Sequence[str],
    characters: Sequence[str],
    similars: Sequence[Sequence[str]],
    *,
    keys: Mapping[str, str] | None = None,
    hashes: Mapping[str, bytes] | None = None,
) -> Clusters:
    """Returns the clusters of the images of one split.

    Args:
        ids: of the images, distinct.
        characters: name of each image's character.
        similars: ids of each image's partners; unknown ids and ids of other characters are
            skipped.
        keys, hashes: that tell variant sets, as `variants.read` returns them.
    """
    names, character = np.unique(np.array(characters), return_inverse=True)
    similar_start, similar = _links(ids, character, similars)
    component = _components(similar_start, similar)
    order = np.lexsort((np.arange(len(ids)), component, character))
    new = np.diff(character[order], prepend=-1) != 0
    new_outfit = new | (np.diff(component[order], prepend=-1) != 0)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    outfit = (np.cumsum(new_outfit) - 1)[rank]
    ends = [len(order)]
    return Clusters(
        character=character.astype(np.int32),
        outfit=outfit.astype(np.int32),
        order=order.astype(np.int32),
        rank=rank.astype(np.int32),
        character_start=np.append(np.flatnonzero(new), ends).astype(np.int32),
        outfit_start=np.append(np.flatnonzero(new_outfit), ends).astype(np.int32),
        similar_start=similar_start,
        similar=similar,
        names=names,
        variant=variants.of_split(ids, character, keys or {}, hashes or {}),
    )


def write(builder: tfds.core.DatasetBuilder) -> None:
    """Writes `clusters-SPLIT.npz` beside the records of a built data set, where it is missing."""
    keys, hashes = variants.read(pathlib.Path(builder.data_path))
    for split in builder.info.splits:
        path = _path(builder.data_path, split)
        if path.exists():
            continue
        ids, characters, similars = [], [], []
        for record in array_record.Part(builder, split, ("id", "character", "similar")):
            ids.append(record["id"].decode())
            characters.append(record["character"].decode())
            similars.append([name.decode() for name in record["similar"]])
        from_records(ids, characters, similars, keys=keys, hashes=hashes).save(path)


def _path(directory: epath.PathLike, split: str) -> pathlib.Path:
    return pathlib.Path(directory) / f"clusters-{split}.npz"


def _links(
    ids: Sequence[str], character: np.ndarray, similars: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the similar lists in compressed rows, without links that lead out."""
    position = {name: i for i, name in enumerate(ids)}
    rows = [
        [j for j in (position.get(s) for s in links) if j is not None and character[j] == c]
        for links, c in zip(similars, character, strict=True)
    ]
    start = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return start, np.array([j for row in rows for j in row], np.int32)


def _components(start: np.ndarray, links: np.ndarray) -> np.ndarray:
    """Returns the connected components of the undirected graph of the links, from 0."""
    count = len(start) - 1
    graph = sparse.csr_array((np.ones(len(links), bool), links, start), shape=(count, count))
    return csgraph.connected_components(graph, directed=False)[1]
