"""What a collection writes: annotations, and the list of what was dropped.

An annotation has the keys of RetriBooru's figure (`bbox` is null without a face), and `md5`,
`width`, `height`, `file_ext` of the metadata, those that are known. Of a variant set (see
`tfds_retribooru.variants`) all but the first name that one as `parent_id`. A dropped line says
which post, why, and in which file and line it stands.
"""

import contextlib
import itertools
import pathlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import orjson

from tfds_retribooru import atomic_folder, local_paths
from tfds_retribooru.boxes import Box
from tfds_retribooru.building import locks
from tfds_retribooru.collect import filters, outcome
from tfds_retribooru.collect.candidates import Index, Partners, ScreenedPart, read_spool
from tfds_retribooru.collect.filters import Candidate

LINES = 50_000  # of a file of annotations
MASKS = "masks"  # of figures; the folder in which they wait for the end of the collection
# The list of what was dropped; in a folder of its own, as a builder reads all of the one above.
DROPPED_FILE = "manifest/dropped.jsonl"


@contextlib.contextmanager
def new_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a folder beside `out` to write in, which takes the name `out` if the block succeeds.

    Of a collection that failed only the list of what was dropped stays, as `outcome.failed_list`.
    Where another process collects into `out`, it waits for that one.

    Raises:
        FileExistsError: `out` exists.
    """
    with locks.build_lock(out):
        if out.exists():
            raise FileExistsError(f"{out} exists: remove it, or name another folder")
        outcome.failed_list(out).unlink(missing_ok=True)
        with atomic_folder.replace(out) as partial:
            (partial / DROPPED_FILE).parent.mkdir()
            try:
                yield partial
            except outcome.CollectionFailed:
                (partial / DROPPED_FILE).replace(outcome.failed_list(out))
                raise


def annotation(
    post: Candidate, similar: Sequence[int], bbox: Box | None, *, parent: int | None
) -> bytes:
    """Returns an annotation as JSON, without the end of the line.

    Args:
        post: the candidate.
        similar: its partners.
        bbox: of its face.
        parent: the first of its variants, None if that is itself or it has none.
    """
    record = {
        "id": str(post.id),
        "character": post.character,
        "artists": post.artist,
        "bbox": bbox,
        "cloths": post.cloths,
        "similar": [str(partner) for partner in similar],
        "prompts": ", ".join(post.prompts),
    }
    known = {"md5": post.md5, "width": post.width, "height": post.height, "file_ext": post.file_ext}
    if parent:
        record["parent_id"] = str(parent)
    return orjson.dumps(record | {key: value for key, value in known.items() if value})


def dropped(post: int | str, reason: str, file: str, line: int) -> bytes:
    """Returns a line of DROPPED_FILE about the post with this id, without the end of the line."""
    row = {"id": str(post), "reason": reason, "file": local_paths.shown(file), "line": int(line)}
    return orjson.dumps(row)


def write_annotations(
    folder: pathlib.Path,
    parts: Sequence[ScreenedPart],
    *,
    index: Index,
    partners: Partners,
    boxes: Mapping[int, Box | None],
) -> None:
    """Writes the kept candidates in the order of the metadata, LINES a file.

    Args:
        folder: that exists.
        parts: of the metadata.
        index: of the parts.
        partners: of the N candidates.
        boxes: position -> face; others have none.
    """
    count = -(-len(index.kept) // LINES)
    lines = _lines(parts, index, partners, boxes)
    for number in range(count):
        name = f"annotations-{number:05d}-of-{count:05d}.json"
        with open(folder / name, "wb") as file:
            file.writelines(itertools.islice(lines, LINES))


def _lines(
    parts: Sequence[ScreenedPart],
    index: Index,
    partners: Partners,
    boxes: Mapping[int, Box | None],
) -> Iterator[bytes]:
    """Yields the annotations of the kept candidates; the arguments are `write_annotations`'s."""
    posts = (post for part in parts for post in read_spool(part.spool))
    for position, post in enumerate(posts):
        if index.drop_code[position] == 0:
            similar, parent = partners.of(position), int(partners.parent[position])
            yield annotation(post, similar, boxes.get(position), parent=parent) + b"\n"


def move_masks(folder: pathlib.Path, masks: pathlib.Path) -> None:
    """Moves the masks in MASKS of a folder, if there are any, in place of those of their names.

    Args:
        folder: of the collection.
        masks: where they are asked for.
    """
    waiting = folder / MASKS
    if waiting.is_dir():
        masks.mkdir(parents=True, exist_ok=True)
        for path in list(waiting.iterdir()):
            shutil.move(path, masks / path.name)
        waiting.rmdir()


def write_dropped(
    folder: pathlib.Path, parts: Sequence[ScreenedPart], drop_code: np.ndarray
) -> Counter[str]:
    """Writes DROPPED_FILE part by part; returns counts by reason, and "kept".

    Args:
        folder: that has the folder of DROPPED_FILE.
        parts: of the metadata.
        drop_code: uint8 [N], as in Index.
    """
    counts = Counter(kept=int((drop_code == 0).sum()))
    unknown_keys: set[str] = set()
    codes = np.split(drop_code, np.cumsum([len(part.id) for part in parts])[:-1])
    with open(folder / DROPPED_FILE, "wb") as file:
        for part, part_codes in zip(parts, codes, strict=True):
            for post, reason, line in _dropped_rows(part, part_codes):
                if reason.startswith("unknown_key"):  # each part names its own; once is enough
                    if reason in unknown_keys:
                        continue
                    unknown_keys.add(reason)
                counts[reason] += 1
                file.write(dropped(post, reason, part.part.path, line) + b"\n")
    return counts


def _dropped_rows(
    part: ScreenedPart, drop_code: np.ndarray
) -> Iterator[tuple[int | str, str, int]]:
    """Yields (id, reason, line): faults, then posts that the filter dropped, then candidates."""
    for fault in part.faults:
        yield fault.id, fault.reason, fault.line
    for post, line, code in zip(
        part.dropped_id, part.dropped_line, part.dropped_reason, strict=True
    ):
        yield post, filters.REASONS[code], line
    for i in np.flatnonzero(drop_code):
        yield part.id[i], filters.CANDIDATE_REASONS[drop_code[i]], part.line[i]
