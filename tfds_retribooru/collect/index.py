"""The index of all candidates: flat arrays, with tags and names as numbers.

Axes: N candidates, T clothing tags of all of them, M links between partners, C characters.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfds_retribooru.collect.candidates import Screened


class Index(NamedTuple):
    """Candidates in the order of the metadata.

    Attributes:
        id: int64 [N].
        md5, file_ext: bytes [N].
        character: int32 [N], into names.
        names: str [C].
        cloths: int32 [T], into `tags`; those of candidate i are cloths[start[i]:start[i + 1]].
        start: int64 [N + 1].
        tags: the clothing vocabulary, sorted.
    """

    id: np.ndarray
    md5: np.ndarray
    file_ext: np.ndarray
    character: np.ndarray
    names: list[str]
    cloths: np.ndarray
    start: np.ndarray
    tags: Sequence[str]

    @property
    def size(self) -> int:
        """The number of candidates, N."""
        return len(self.id)

    def cloths_of(self, i: int) -> list[str]:
        """The clothing tags of candidate i."""
        return [self.tags[k] for k in self.cloths[self.start[i] : self.start[i + 1]]]


class Partners(NamedTuple):
    """`similar` lists: of candidate i, ids[start[i] : start[i] + count[i]].

    Attributes:
        start: int64 [N]. count: int32 [N], 0 where there is no partner. ids: int64 [M].
    """

    start: np.ndarray
    count: np.ndarray
    ids: np.ndarray

    def of(self, i: int) -> list[int]:
        """The partners of candidate i."""
        return self.ids[self.start[i] : self.start[i] + self.count[i]].tolist()


def join(parts: Iterable[Screened], tags: Sequence[str]) -> Index:
    """Puts the indices of the parts one after the other."""
    names: dict[str, int] = {}
    parts = list(parts)
    characters = [
        np.array([names.setdefault(name, len(names)) for name in part.names], np.int32)[
            part.character
        ]
        for part in parts
    ]

    def whole(field: str) -> np.ndarray:
        return np.concatenate([getattr(part, field) for part in parts])

    count = whole("cloths_count")
    return Index(
        id=whole("id"),
        md5=whole("md5"),
        file_ext=whole("file_ext"),
        character=np.concatenate(characters),
        names=list(names),
        cloths=whole("cloths"),
        start=np.concatenate([[0], np.cumsum(count, dtype=np.int64)]),
        tags=tags,
    )


def by_character(index: Index, among: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the positions of each character's candidates, out of the positions `among`."""
    if len(among):
        ordered = among[np.argsort(index.character[among], kind="stable")]
        yield from np.split(ordered, np.flatnonzero(np.diff(index.character[ordered])) + 1)
