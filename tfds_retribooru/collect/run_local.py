"""The collection on one machine: read and screen, remove copies, find outfits, write.

Posts are held as the flat arrays of `index.Index`; their texts wait in spool files. All is written
into a folder beside the wanted one, which takes its name at the end: a collection that was
interrupted leaves nothing that looks finished, and starts again.
"""

import contextlib
import functools
import multiprocessing
import pathlib
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from tfds_retribooru import json_stream
from tfds_retribooru.collect import image_models, near_duplicates, outfits, output, writing
from tfds_retribooru.collect import index as index_lib
from tfds_retribooru.collect.candidates import Screened, screen_part
from tfds_retribooru.collect.index import Index, Partners
from tfds_retribooru.collect.output import LATE_REASONS
from tfds_retribooru.collect.settings import Settings

_PICTURES = 64  # that a process or a model is given at a time
_CODE = {reason: code for code, reason in enumerate(LATE_REASONS)}


def collect(settings: Settings, models: image_models.Models | None = None) -> Counter:
    """Writes the folder `settings.out` with annotations-*.json and manifest/dropped.jsonl.

    Args:
        settings: what to do.
        models: the VQA model and the detectors; None opens those that `settings` names.

    Returns:
        How many posts were kept ("kept") and, for each reason, dropped or faulty.

    Raises:
        FileExistsError: the folder exists.
    """
    if settings.out.exists():
        raise FileExistsError(f"{settings.out} exists: remove it, or name another folder")
    models = models or image_models.load_models(settings)
    partial = settings.out.with_name(f".{settings.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    spool = partial / "spool"
    spool.mkdir(parents=True)
    screened = list(screen(settings, spool))
    index = index_lib.join(screened, sorted(settings.wanted.vocabulary))
    late = np.zeros(index.size, np.uint8)  # [N], into LATE_REASONS; 0 is kept so far
    drop_copies(index, late)
    answers = None
    if settings.images:
        look(settings, index, late)
        answers = ask(settings, models, index, late)
    partners = find_partners(settings, index, late, answers)
    boxes = detect(settings, models, index, late)
    writing.write_annotations(partial, screened, late, partners, boxes)
    counts = writing.write_dropped(partial, screened, late)
    shutil.rmtree(spool)
    partial.rename(settings.out)
    return counts


def screen(settings: Settings, spool: pathlib.Path) -> Iterator[Screened]:
    """Screens all parts, in their order."""
    parts = [part for path in settings.metadata for part in json_stream.parts(path)]
    jobs = [(part, settings.wanted, str(spool / f"{k:05d}")) for k, part in enumerate(parts)]
    with _processes(min(settings.workers, len(jobs))) as run, _bar("metadata", "post") as bar:
        for result in run(_screen_job, jobs):
            bar.update(len(result.id) + len(result.dropped_id))
            yield result


def _screen_job(job) -> Screened:
    return screen_part(*job)


def drop_copies(index: Index, late: np.ndarray) -> None:
    """Marks posts whose id came before, then those whose file has a smaller id."""
    first = near_duplicates.first_of_equal(index.id, np.arange(index.size))
    late[~first] = _CODE[output.DUPLICATE_ID]
    left = np.flatnonzero(first)
    copies = left[~near_duplicates.first_of_equal(index.md5[left], index.id[left])]
    late[copies] = _CODE[output.DUPLICATE_FILE]


def look(settings: Settings, index: Index, late: np.ndarray) -> None:
    """Marks posts without a readable picture, then near copies of a post with a smaller id."""
    left = np.flatnonzero(late == 0)
    hash_of = functools.partial(image_models.hash_of, settings.images)
    found = []
    with _processes(settings.workers) as run, _bar("pictures", "picture", len(left)) as bar:
        for result in run(hash_of, _posts(index, left), _PICTURES):
            found.append(result)
            bar.update()
    lost = np.array([isinstance(result, str) for result in found], bool)
    late[left[lost]] = [_CODE[result] for result in found if isinstance(result, str)]
    left = left[~lost]
    hashes = [result for result in found if isinstance(result, bytes)]
    copies = near_duplicates.near_copies(hashes, index.id[left], settings.distance)
    late[left[copies]] = _CODE[output.NEAR_COPY]


def ask(settings, models, index: Index, late: np.ndarray) -> dict[int, dict[str, str]] | None:
    """Position -> answers, of the characters with several pictures; None without a VQA model."""
    if models.ask is None:
        return None
    left = np.flatnonzero(late == 0)
    several = np.bincount(index.character[left], minlength=len(index.names)) > 1
    left = left[several[index.character[left]]]
    found: dict[int, dict[str, str]] = {}
    with _bar("questions", "picture", len(left)) as bar:
        for begin in range(0, len(left), _PICTURES):
            part = left[begin : begin + _PICTURES]
            replies = image_models.answers(models.ask, settings.images, _posts(index, part))
            found |= zip(part.tolist(), replies, strict=True)
            bar.update(len(part))
    return found


def find_partners(settings, index: Index, late: np.ndarray, answers) -> Partners:
    """The `similar` lists; posts without a partner are marked."""
    left = np.flatnonzero(late == 0)
    start, count = np.zeros(index.size, np.int64), np.zeros(index.size, np.int32)
    ids = array("q")
    with _bar("outfits", "post", len(left)) as bar:
        for group in index_lib.by_character(index, left):
            cloths = [index.cloths_of(i) for i in group]
            said = answers and [answers.get(int(i), {}) for i in group]
            names = index.id[group].tolist()
            for i, row in zip(
                group, outfits.partners(names, cloths, said, settings.rule), strict=True
            ):
                start[i], count[i] = len(ids), len(row)
                ids.extend(row)
            bar.update(len(group))
    late[left[count[left] == 0]] = _CODE[output.NO_PARTNER]
    return Partners(start, count, np.array(ids, np.int64))


def detect(settings, models: image_models.Models, index: Index, late: np.ndarray) -> dict:
    """Position -> box or None, of what is kept; masks are written. Empty without detectors."""
    if not (models.face or models.figure):
        return {}
    kept = np.flatnonzero(late == 0)
    posts = tqdm(_posts(index, kept), "detectors", unit="picture")
    boxes = (image_models.detect(models, settings, post) for post in posts)
    return dict(zip(kept.tolist(), boxes, strict=True))


def _posts(index: Index, positions: np.ndarray) -> list[tuple[int, str]]:
    """(id, file_ext) of candidates."""
    exts = index.file_ext[positions].astype(str)
    return list(zip(index.id[positions].tolist(), exts.tolist(), strict=True))


def _bar(what: str, unit: str, total: int | None = None) -> tqdm:
    return tqdm(desc=what, unit=unit, unit_scale=True, total=total, mininterval=1)


@contextlib.contextmanager
def _processes(count: int):
    """map in order: (function, jobs, chunk size) -> results; in this process where count is 1."""
    if count <= 1:
        yield lambda function, jobs, chunk=1: map(function, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        yield pool.imap
