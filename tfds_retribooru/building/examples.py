"""From a stream of records to the examples of each split: what the builders share.

The records are read twice. The first time (`plan`) only ids, characters and links are kept, and
decide the splits. The second time, once a split, pictures are decoded on all cores and stored.
"""

import collections
import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfds_retribooru import clusters, images, vocabulary
from tfds_retribooru.building import splits
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.building.rejections import NAME, Rejections
from tfds_retribooru.images import Picture, Unreadable

Read = Callable[[], Iterator[Record | Fault]]
Locate = Callable[[Record], tuple[pathlib.Path | None, pathlib.Path | None]]

BEAM_FOLDER = "beam"  # of files between pipelines, while a data set is built
SAME_PICTURE = "the picture is that of another record"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the first reading decided, by the order of the records.

    Attributes:
        split: int8 [N], index into splits.SPLITS.
        similar: each record's links, without those that lead nowhere or to another character.
    """

    split: np.ndarray
    similar: Sequence[tuple[str, ...]]


def plan(read: Read, log: Rejections) -> Plan:
    """Reads all records once; notes every fault that needs no picture.

    Raises:
        ValueError: there is no record at all, or too many are rejected.
    """
    ids, characters, similars, places = [], [], [], []
    for item in read():
        if isinstance(item, Fault):
            log.add(item)
            continue
        ids.append(item.id)
        characters.append(item.character)
        similars.append(item.similar)
        places.append((item.file, item.line))
    log.total = len(ids) + log.rejected
    if not ids:
        raise ValueError(f"there is no record to build from.\n{log.summary()}")
    log.check()
    similars = _checked_links(ids, characters, similars, places, log)
    return Plan(splits.assign(ids, characters, similars), similars)


def _checked_links(ids, characters, similars, places, log: Rejections) -> list[tuple[str, ...]]:
    """The links without those to unknown ids or other characters, which are noted."""
    character_of = dict(zip(ids, characters, strict=True))
    checked = []
    for name, links, (file, line) in zip(ids, similars, places, strict=True):
        own = character_of[name]
        if any(character_of.get(link) != own for link in links):
            for link in links:
                if link not in character_of:
                    reason = "a similar id is of no record"
                elif character_of[link] != own:
                    reason = "a similar id is of another character"
                else:
                    continue
                log.add(Fault(name, reason, file=file, line=line, part="similar", detail=link))
            links = tuple(link for link in links if character_of.get(link) == own)
        checked.append(links)
    return checked


def usable_splits(
    read: Read, planned: Plan, locate: Locate, side: int | None, log: Rejections
) -> list[str]:
    """The splits with a record whose picture can be used: TFDS cannot store an empty one.

    The faults of a split without any are noted.
    """
    faults: dict[int, list[Fault]] = {int(split): [] for split in np.unique(planned.split)}
    for record, split in zip(_records(read), planned.split, strict=True):
        if split in faults:
            picture = picture_of(record, locate, side)
            if isinstance(picture, Picture):
                del faults[split]
            else:
                faults[split].append(_whole_fault(record, picture, {}))
        if not faults:
            break
    for fault in (fault for unusable in faults.values() for fault in unusable):
        log.add(fault)
    used = set(planned.split.tolist()) - faults.keys()
    return [name for i, name in enumerate(splits.SPLITS) if i in used]


def examples(
    read: Read,
    planned: Plan,
    split: str,
    locate: Locate,
    side: int | None,
    seen: dict[bytes, str],
    log: Rejections,
) -> Iterator[tuple[str, dict]]:
    """(id, example) of the records of one split whose pictures can be used.

    Args:
        read: the same stream as `plan` has read.
        planned: by `plan`.
        split: one of splits.SPLITS; they are to be built in that order.
        locate: the paths of a record's picture and mask, None where there is none.
        side: see pictures.prepare.
        seen: digest -> id of the pictures of all splits so far; is added to. A picture that was
            there before is rejected, so that no picture is in two splits, or its own reference.
        log: notes faults.

    Raises:
        TooManyRejected: see rejections.Rejections.
        ValueError: all pictures of the split were there before.
    """
    number, empty = splits.SPLITS.index(split), True
    chosen = (
        dataclasses.replace(record, similar=similar)
        for record, similar, of in zip(_records(read), planned.similar, planned.split, strict=True)
        if of == number
    )
    for record, picture in in_order(lambda r: (r, picture_of(r, locate, side)), chosen):
        fault = _whole_fault(record, picture, seen)
        if fault is not None:
            log.add(fault)
            continue
        for part, reason, detail in picture.lost:
            log.add(record.fault(reason, part=part, detail=detail))
        seen[picture.digest] = record.id
        empty = False
        yield record.id, example(record, picture)
    if empty:
        raise ValueError(f"all pictures of the split {split!r} were there before.\n{log.summary()}")


def _records(read: Read) -> Iterator[Record]:
    return (item for item in read() if isinstance(item, Record))


def picture_of(record: Record, locate: Locate, side: int | None) -> Picture | Unreadable:
    """The picture, or why there is none."""
    image, mask = locate(record)
    if image is None:
        return Unreadable("the picture's file is missing")
    try:
        mask_bytes = None if mask is None else mask.read_bytes()
        return images.prepare(image.read_bytes(), mask_bytes, record.bbox, record.size, side)
    except Unreadable as error:
        return error
    except OSError as error:
        return Unreadable("a file cannot be read", str(error.strerror))


def _whole_fault(record: Record, picture: Picture | Unreadable, seen) -> Fault | None:
    if isinstance(picture, Unreadable):
        reason, detail = picture.reason, picture.detail[:120]
        return record.fault(reason, detail=detail)
    if picture.digest in seen:
        other = seen[picture.digest]
        return record.fault(SAME_PICTURE, detail=other)
    return None


def example(record: Record, picture: Picture) -> dict:
    """What TFDS stores."""
    return {
        "id": record.id,
        "character": record.character,
        "artists": record.artists,
        "image": picture.image,
        "mask": NO_MASK if picture.mask is None else picture.mask,
        "has_mask": picture.mask is not None,
        "bbox": np.array(picture.bbox or (0,) * 4, np.float32),
        "has_bbox": picture.bbox is not None,
        "cloths": list(record.cloths),
        "similar": list(record.similar),
        "prompts": record.prompts,
    }


NO_MASK = images.black_pixel()


def in_order(function: Callable, items: Iterable, threads: int | None = None) -> Iterator:
    """`map(function, items)` on threads (Pillow frees the interpreter while it works).

    A few items wait at a time, so memory does not grow with their number.
    """
    threads = threads or cores()
    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def cores() -> int:
    """Cores that this process may use; all of them where the system does not tell (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split_generators(builder, read: Read, locate: Locate) -> dict:
    """What a builder's `_split_generators` returns.

    Args:
        builder: with `log` (Rejections) and `download_config`, as `download_and_prepare` got it.
        read: makes the stream of records, each time anew.
        locate: see `examples`; picklable.
    """
    config, log, side = builder.download_config, builder.log, builder.builder_config.side
    planned = plan(read, log)
    if config and (config.beam_runner or config.beam_options):
        from tfds_retribooru.building import beam  # needs apache_beam

        folder = pathlib.Path(builder.data_path) / BEAM_FOLDER
        pipeline = config.beam_runner, config.beam_options
        return beam.transforms(read, planned, locate, side, log, folder, *pipeline)
    seen: dict[bytes, str] = {}
    return {
        name: builder._generate_examples(read, planned, name, locate, side, seen, log)
        for name in usable_splits(read, planned, locate, side, log)
    }


def finish(builder, is_new: bool) -> None:
    """Writes clusters and vocabulary beside the records, where they are missing.

    Args:
        builder: of a data set that is built.
        is_new: it was built just now: says what was stored and what was left out.
    """
    beam_files = pathlib.Path(builder.data_path) / BEAM_FOLDER
    if beam_files.exists():
        shutil.rmtree(beam_files)
    clusters.write(builder)
    vocabulary.write(builder.data_path, functools.partial(vocabulary.from_records, builder))
    if is_new:
        print(_report(builder, builder.log), flush=True)


def _report(builder, log: Rejections) -> str:
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    names = [name for name in reversed(splits.SPLITS) if name in counts]
    stored = ", ".join(f"{name} {counts[name]:,}" for name in names)
    text = f"{log.total:,} records, {sum(counts.values()):,} stored ({stored})"
    if log.counts:
        text += f"; left out, see {builder.data_path / NAME}:\n{log.summary()}"
    return text
