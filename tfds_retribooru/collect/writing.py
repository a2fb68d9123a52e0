"""Writes what a collection found: a file of annotations for each part, and what was dropped."""

import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tfds_retribooru.collect import filters, output
from tfds_retribooru.collect.candidates import Screened, candidates
from tfds_retribooru.collect.index import Partners
from tfds_retribooru.collect.output import Box


def write_annotations(
    folder: pathlib.Path,
    screened: Sequence[Screened],
    late: np.ndarray,
    partners: Partners,
    boxes: Mapping[int, Box | None],
) -> None:
    """Writes the candidates that are kept, in the order of the metadata.

    Args:
        folder: that exists.
        screened: the parts.
        late: uint8 [N], into output.LATE_REASONS; 0 is kept.
        partners: of the N candidates.
        boxes: position -> face; others have none.
    """
    position = 0
    for number, part in enumerate(screened):
        name = f"annotations-{number:05d}-of-{len(screened):05d}.json"
        with open(folder / name, "wb") as file:
            for post in candidates(part.spool):
                if late[position] == 0:
                    box = boxes.get(position)
                    file.write(output.annotation(post, partners.of(position), box) + b"\n")
                position += 1


def write_dropped(folder: pathlib.Path, screened: Sequence[Screened], late: np.ndarray) -> Counter:
    """Writes output.DROPPED_FILE by parts of the metadata; returns counts by reason, and "kept"."""
    counts = Counter(kept=int((late == 0).sum()))
    keys: set[str] = set()
    position = 0
    path = folder / output.DROPPED_FILE
    path.parent.mkdir()
    with open(path, "wb") as file:
        for part in screened:
            rows = _lost(part, late[position : position + len(part.id)])
            position += len(part.id)
            for line, name, reason in rows:
                if reason.startswith("unknown_key"):  # each part tells its own; once is enough
                    if reason in keys:
                        continue
                    keys.add(reason)
                counts[reason] += 1
                file.write(output.dropped(name, reason, part.part.path, line) + b"\n")
    return counts


def _lost(part: Screened, late: np.ndarray) -> Iterator[tuple[int, int | str, str]]:
    """(line, id, reason) of what a part lost; its faults, early reasons, then late ones."""
    for name, reason, line in part.faults:
        yield line, name, reason
    early = zip(part.dropped_line, part.dropped_id, part.dropped_reason, strict=True)
    for line, name, code in early:
        yield line, name, filters.REASONS[code]
    for i in np.flatnonzero(late):
        yield part.line[i], part.id[i], output.LATE_REASONS[late[i]]
