"""From a stream of records to the examples of each split: what the builders share.

The records are read twice. The first time (`plan`) only ids, characters and links are kept, and
decide the splits. The second time, once a split, pictures are decoded on all cores and stored.
"""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow_datasets as tfds

from tfds_retribooru import clusters, pictures, splits, vocabulary
from tfds_retribooru.pictures import Picture, Unreadable
from tfds_retribooru.records import Fault, Record
from tfds_retribooru.rejections import NAME, Rejections

Read = Callable[[], Iterator[Record | Fault]]
Locate = Callable[[Record], tuple[pathlib.Path | None, pathlib.Path | None]]

SIDES = {"384": 384, "512": 512, "original": None}  # pixels of the shorter side, by configuration


@dataclasses.dataclass
class SizeConfig(tfds.core.BuilderConfig):
    """A configuration: how large pictures are stored.

    Attributes:
      side: pixels of the shorter side at most; None keeps the size.
    """

    side: int | None = None


def configs() -> list[SizeConfig]:
    """The configurations of SIDES."""
    about = {None: "Pictures as they are."}
    return [
        SizeConfig(name=name, side=side, description=about.get(side, f"Shorter side {side} px."))
        for name, side in SIDES.items()
    ]


def features() -> tfds.features.FeaturesDict:
    """What is stored of a record; the same as of `avatars`, without the truth."""
    f = tfds.features
    return f.FeaturesDict(
        {
            "id": f.Text(),
            "character": f.Text(),
            "artists": f.Text(),
            "image": f.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "mask": f.Image(
                shape=(None, None, 1),
                encoding_format="png",
                doc="figure, soft; of the image's size, or one black pixel without has_mask",
            ),
            "has_mask": f.Scalar(np.bool_),
            "bbox": f.Tensor(
                shape=(4,),
                dtype=np.float32,
                doc="face: centre x, centre y, width, height in [0,1]; zeros without has_bbox",
            ),
            "has_bbox": f.Scalar(np.bool_),
            "cloths": f.Sequence(f.Text(), doc="clothing tags"),
            "similar": f.Sequence(f.Text(), doc="ids of the same character in the same outfit"),
            "prompts": f.Text(doc="comma-joined tags"),
        }
    )


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
                log.add(Fault(name, reason, file, line, "similar", link))
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
            picture = _picture(record, locate, side)
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
    for record, picture in in_order(lambda r: (r, _picture(r, locate, side)), chosen):
        fault = _whole_fault(record, picture, seen)
        if fault is not None:
            log.add(fault)
            continue
        for part, reason, detail in picture.lost:
            log.add(Fault(record.id, reason, record.file, record.line, part, detail))
        seen[picture.digest] = record.id
        empty = False
        yield record.id, example(record, picture)
    if empty:
        raise ValueError(f"all pictures of the split {split!r} were there before.\n{log.summary()}")


def _records(read: Read) -> Iterator[Record]:
    return (item for item in read() if isinstance(item, Record))


def _picture(record: Record, locate: Locate, side: int | None) -> Picture | Unreadable:
    """The picture, or why there is none."""
    image, mask = locate(record)
    if image is None:
        return Unreadable("the picture's file is missing")
    try:
        mask_bytes = None if mask is None else mask.read_bytes()
        return pictures.prepare(image.read_bytes(), mask_bytes, record.bbox, record.size, side)
    except Unreadable as error:
        return error
    except OSError as error:
        return Unreadable("a file cannot be read", str(error.strerror))


def _whole_fault(record: Record, picture: Picture | Unreadable, seen) -> Fault | None:
    if isinstance(picture, Unreadable):
        reason, detail = picture.reason, picture.detail[:120]
        return Fault(record.id, reason, record.file, record.line, "", detail)
    if picture.digest in seen:
        reason = "the picture is that of another record"
        return Fault(record.id, reason, record.file, record.line, "", seen[picture.digest])
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


NO_MASK = pictures.black_pixel()


def in_order(function: Callable, items: Iterable, threads: int | None = None) -> Iterator:
    """`map(function, items)` on threads (Pillow frees the interpreter while it works).

    A few items wait at a time, so memory does not grow with their number.
    """
    threads = threads or len(os.sched_getaffinity(0))
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


def finish(builder: tfds.core.DatasetBuilder) -> None:
    """Writes clusters and vocabulary beside the records, where they are missing."""
    clusters.write(builder)
    vocabulary.write(builder)


def report(builder: tfds.core.DatasetBuilder, log: Rejections) -> str:
    """What a finished build has to say."""
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    stored = ", ".join(
        f"{name} {counts[name]:,}" for name in reversed(splits.SPLITS) if name in counts
    )
    text = f"{log.total:,} records, {sum(counts.values()):,} stored ({stored})"
    if log.counts:
        text += f"; left out, see {builder.data_path / NAME}:\n{log.summary()}"
    return text
