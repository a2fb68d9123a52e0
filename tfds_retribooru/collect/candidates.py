"""One part of a metadata file: candidates to a spool file, all else to flat arrays.

What stays in memory of a post is its id, place, md5 and, for a candidate, character and clothes as
numbers: the index. Tags and prompts wait on disk until the outfits are known.

Axes: D dropped posts, N candidates, C characters of this part, T clothing tags of all candidates.
"""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import orjson

from tfds_retribooru import json_stream
from tfds_retribooru.collect import danbooru, filters
from tfds_retribooru.collect.danbooru import Fault
from tfds_retribooru.collect.filters import Candidate, Filter
from tfds_retribooru.json_stream import Part


class Screened(NamedTuple):
    """What was found in one part.

    Attributes:
        part: of which file.
        spool: file of the candidates, in order.
        faults: of posts or parts of posts that cannot be read.
        dropped_id, dropped_line: int64 [D]; dropped_reason: uint8 [D], into filters.REASONS.
        id, line: int64 [N].
        md5: bytes [N]; file_ext: bytes [N].
        character: int32 [N], into names; names: str [C].
        cloths: int32 [T], into the sorted vocabulary; cloths_count: int32 [N].
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


def screen_part(part: Part, wanted: Filter, spool: str) -> Screened:
    """Reads a part, spools its candidates and returns its index."""
    code = {tag: k for k, tag in enumerate(sorted(wanted.vocabulary))}
    reasons = {reason: k for k, reason in enumerate(filters.REASONS)}
    names: dict[str, int] = {}
    faults, dropped, kept, cloths = [], [], [], []
    with open(spool, "wb") as file:
        for item in outcomes(json_stream.read_part(part), wanted):
            if isinstance(item, Fault):
                faults.append(item)
                continue
            line, name, outcome = item
            if isinstance(outcome, str):
                dropped.append((name, line, reasons[outcome]))
                continue
            file.write(orjson.dumps(tuple(outcome)) + b"\n")
            character = names.setdefault(outcome.character, len(names))
            codes = [code[tag] for tag in outcome.cloths]
            cloths += codes
            kept.append((name, line, outcome.md5, outcome.file_ext, character, len(codes)))
    dropped_columns = _columns(dropped, (np.int64, np.int64, np.uint8))
    ids, lines, md5, ext, character, count = _columns(
        kept, (np.int64, np.int64, "S32", "S5", np.int32, np.int32)
    )
    return Screened(
        *(part, spool, faults, *dropped_columns, ids, lines, md5, ext, character, list(names)),
        *(np.array(cloths, np.int32), count),
    )


def outcomes(
    read: Iterator[json_stream.Document], wanted: Filter
) -> Iterator[tuple[int, int, Candidate | str] | Fault]:
    """Yields (line, id, candidate or reason) of each post, and the faults."""
    for item in danbooru.posts(read):
        if isinstance(item, Fault):
            yield item
        else:
            line, post = item
            yield line, post.id, filters.screen(post, wanted)


def candidates(spool: str | pathlib.Path) -> Iterator[Candidate]:
    """Reads the candidates of a spool file, in order."""
    with open(spool, "rb") as file:
        for line in file:
            yield Candidate(*orjson.loads(line))


def _columns(rows: list[tuple], types: tuple) -> list[np.ndarray]:
    columns = zip(*rows, strict=True) if rows else ([] for _ in types)
    return [np.array(column, kind) for column, kind in zip(columns, types, strict=True)]
