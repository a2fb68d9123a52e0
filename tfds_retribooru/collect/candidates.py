"""The candidates of the metadata: read and filtered part by part, then indexed together.

Of a post only its id, place, md5 and, for a candidate, character and clothes as numbers stay in
memory: the index. Tags and prompts wait in spool files until the outfits are known.

Axes: D dropped posts, N candidates, C characters, T clothing tags of all candidates, M links
between partners; in `ScreenedPart` of one part of a file, in `Index` of all.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from tfds_retribooru import json_stream, variants
from tfds_retribooru.building.records import Fault
from tfds_retribooru.collect import danbooru, filters
from tfds_retribooru.collect.filters import Candidate, Criteria
from tfds_retribooru.json_stream import Document, Part


class ScreenedPost(NamedTuple):
    """A post that could be read: its place, and the candidate or one of filters.REASONS.

    Attributes:
        relatives: as in Post.
    """

    line: int
    id: int
    result: Candidate | str
    relatives: tuple[int, ...] = ()


class ScreenedPart(NamedTuple):
    """The candidates, dropped posts and faults of one part of a metadata file.

    Attributes:
        part: of which file.
        spool: file of the candidates, in order.
        faults: of posts or parts of posts that cannot be read.
        dropped_id, dropped_line: int64 [D].
        dropped_reason: uint8 [D], into filters.REASONS.
        id, line: int64 [N].
        md5, file_ext: bytes [N].
        character: int32 [N], into names.
        names: str [C].
        cloths: int32 [T], into the sorted vocabulary.
        cloths_count: int32 [N].
        links: ids of posts and of their parents or children, int64 [L, 2]; dropped ones too.
    """

    part: Part
    spool: str
    faults: list[Fault]
    dropped_id: np.ndarray
    dropped_line: np.ndarray
    dropped_reason: np.ndarray
    id: np.ndarray
    line: np.ndarray
    md5: np.ndarray
    file_ext: np.ndarray
    character: np.ndarray
    names: list[str]
    cloths: np.ndarray
    cloths_count: np.ndarray
    links: np.ndarray


@dataclasses.dataclass(frozen=True)
class Index:
    """All candidates in the order of the metadata, as flat arrays.

    Attributes:
        id: int64 [N].
        md5, file_ext: bytes [N].
        character: int32 [N], into names.
        names: str [C].
        key: int64 [N], the same for those that parents and children connect.
        cloths: int32 [T], into `tags`; those of candidate i are cloths[start[i]:start[i + 1]].
        start: int64 [N + 1].
        tags: the clothing vocabulary, sorted.
        drop_code: uint8 [N], into filters.CANDIDATE_REASONS, 0 for kept; the steps of a
            collection fill it by `drop`.
    """

    id: np.ndarray
    md5: np.ndarray
    file_ext: np.ndarray
    character: np.ndarray
    names: list[str]
    key: np.ndarray
    cloths: np.ndarray
    start: np.ndarray
    tags: Sequence[str]
    drop_code: np.ndarray

    @property
    def size(self) -> int:
        """The number of candidates, N."""
        return len(self.id)

    @property
    def kept(self) -> np.ndarray:
        """The positions of the candidates that no step has dropped."""
        return np.flatnonzero(self.drop_code == 0)

    def drop(self, positions: np.ndarray, reason: str) -> None:
        """Records one of filters.CANDIDATE_REASONS for candidates, given by position or mask."""
        self.drop_code[positions] = filters.CANDIDATE_REASONS.index(reason)

    def cloths_of(self, i: int) -> list[str]:
        """Returns the clothing tags of candidate i."""
        return [self.tags[k] for k in self.cloths[self.start[i] : self.start[i + 1]]]

    def images_of(self, positions: np.ndarray) -> list[tuple[int, str, str]]:
        """Returns (id, file_ext, md5) of candidates, which name their image."""
        names = (column[positions].astype(str).tolist() for column in (self.file_ext, self.md5))
        return list(zip(self.id[positions].tolist(), *names, strict=True))

    def by_character(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the positions of each character's candidates, out of `positions`."""
        if len(positions):
            ordered = positions[np.argsort(self.character[positions], kind="stable")]
            yield from np.split(ordered, np.flatnonzero(np.diff(self.character[ordered])) + 1)


class Partners(NamedTuple):
    """`similar` lists: of candidate i, ids[start[i] : start[i] + count[i]].

    Attributes:
        start: int64 [N].
        count: int32 [N], 0 where there is no partner.
        ids: int64 [M].
        parent: int64 [N], of variants but the first of them the first, else 0.
    """

    start: np.ndarray
    count: np.ndarray
    ids: np.ndarray
    parent: np.ndarray

    def of(self, i: int) -> list[int]:
        """Returns the ids of the partners of candidate i."""
        return self.ids[self.start[i] : self.start[i] + self.count[i]].tolist()


def screen(documents: Iterable[Document], criteria: Criteria) -> Iterator[ScreenedPost | Fault]:
    """Reads posts and filters them one by one."""
    for item in danbooru.posts(documents):
        if isinstance(item, Fault):
            yield item
        else:
            line, post = item
            result = filters.screen(post, criteria)
            yield ScreenedPost(line, post.id, result, post.relatives)


def screen_part(part: Part, criteria: Criteria, spool: str) -> ScreenedPart:
    """Screens the posts of a part and writes its candidates to the file `spool`."""
    tag_codes = {tag: k for k, tag in enumerate(sorted(criteria.vocabulary))}
    names: dict[str, int] = {}
    faults, dropped, candidates, cloths, links = [], [], [], [], []
    with open(spool, "wb") as file:
        for item in screen(json_stream.read_part(part), criteria):
            if isinstance(item, Fault):
                faults.append(item)
                continue
            links += [(item.id, relative) for relative in item.relatives]
            if isinstance(item.result, str):
                dropped.append((item.id, item.line, filters.REASONS.index(item.result)))
            else:
                post = item.result
                file.write(orjson.dumps(tuple(post)) + b"\n")
                cloths += [tag_codes[tag] for tag in post.cloths]
                character = names.setdefault(post.character, len(names))
                row = post.id, item.line, post.md5, post.file_ext, character, len(post.cloths)
                candidates.append(row)
    dropped_types = {"dropped_id": "int64", "dropped_line": "int64", "dropped_reason": "uint8"}
    types = {"id": "int64", "line": "int64", "md5": "S32", "file_ext": "S5"}
    return ScreenedPart(
        part=part,
        spool=spool,
        faults=faults,
        names=list(names),
        cloths=np.array(cloths, np.int32),
        links=np.array(links, np.int64).reshape(-1, 2),
        **_columns(dropped, dropped_types),
        **_columns(candidates, types | {"character": "int32", "cloths_count": "int32"}),
    )


def _columns(rows: list[tuple], types: dict[str, str]) -> dict[str, np.ndarray]:
    columns = zip(*rows, strict=True) if rows else ([] for _ in types)
    pairs = zip(types.items(), columns, strict=True)
    return {name: np.array(column, dtype) for (name, dtype), column in pairs}


def read_spool(spool: str | pathlib.Path) -> Iterator[Candidate]:
    """Yields the candidates of a spool file, in order."""
    with open(spool, "rb") as file:
        for line in file:
            yield Candidate(*orjson.loads(line))


def join(parts: Sequence[ScreenedPart], tags: Sequence[str]) -> Index:
    """Builds the index of the candidates of all parts, one part after the other.

    Args:
        parts: in the order of the metadata.
        tags: the sorted vocabulary.
    """
    names: dict[str, int] = {}
    characters = []
    for part in parts:
        codes = [names.setdefault(name, len(names)) for name in part.names]
        characters.append(np.array(codes, np.int32)[part.character])

    def concatenate(field: str) -> np.ndarray:
        return np.concatenate([getattr(part, field) for part in parts])

    ids = concatenate("id")
    roots = variants.roots(concatenate("links").tolist())
    return Index(
        id=ids,
        md5=concatenate("md5"),
        file_ext=concatenate("file_ext"),
        character=np.concatenate(characters),
        names=list(names),
        key=np.array([roots.get(name, name) for name in ids.tolist()], np.int64),
        cloths=concatenate("cloths"),
        start=np.concatenate([[0], np.cumsum(concatenate("cloths_count"), dtype=np.int64)]),
        tags=tags,
        drop_code=np.zeros(len(ids), np.uint8),
    )
