"""The collection on one machine: screen the metadata, remove copies, find outfits, write.

Posts are held as the flat arrays of `candidates.Index`; their tags wait in spool files. All is
written into a folder beside the one asked for, which takes its name at the end: a collection that
was interrupted leaves no folder of that name, and starts again.
"""

import pathlib
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from tfds_retribooru import json_stream, processes, variants
from tfds_retribooru.boxes import Box
from tfds_retribooru.collect import (
    candidates,
    filters,
    image_models,
    near_duplicates,
    outcome,
    outfits,
    output,
)
from tfds_retribooru.collect.candidates import Index, Partners, ScreenedPart
from tfds_retribooru.collect.image_models import Models, VqaModel
from tfds_retribooru.collect.outfits import Rule
from tfds_retribooru.collect.settings import Settings

_BATCH = 64  # images, or parts of metadata, that a process is given at a time, at most


def collect(settings: Settings, models: Models | None = None) -> Counter[str]:
    """Writes the folder `settings.out` with annotations-*.json and manifest/dropped.jsonl.

    Args:
        settings: what to collect from what.
        models: the VQA model and the detectors; None opens those that `settings` names.

    Returns:
        How many posts were kept ("kept") and, for each reason, dropped or faulty.

    Raises:
        FileExistsError: the folder exists.
        CollectionFailed: too little was kept, or too much is unreadable.
        ValueError, FileNotFoundError: a model cannot be opened.
    """
    with output.new_folder(settings.out) as folder:
        models = models or image_models.load_models(settings)
        spool = folder / "spool"
        spool.mkdir()
        parts = list(screen(settings, spool))
        index = candidates.join(parts, sorted(settings.criteria.vocabulary))
        drop_duplicates(index)
        images, answers, boxes = settings.images, None, {}
        hashes: dict[int, bytes] = {}
        if images:
            hashes = drop_near_copies(
                index, images, distance=settings.distance, workers=settings.workers
            )
            check(folder, parts, index, settings)  # before models work for hours
            answers = answer_questions(index, images, models.vqa) if models.vqa else None
        partners = find_partners(index, settings.rule, answers=answers, hashes=hashes)
        if images and (models.detect_face or models.segment_figure):
            boxes = detect(index, models, images=images, masks=folder / output.MASKS)
        output.write_annotations(folder, parts, index=index, partners=partners, boxes=boxes)
        counts = check(folder, parts, index, settings)
        output.move_masks(folder, settings.mask_folder)
        shutil.rmtree(spool)
    return counts


def check(
    folder: pathlib.Path, parts: Sequence[ScreenedPart], index: Index, settings: Settings
) -> Counter[str]:
    """Writes the list of what was dropped so far; returns the counts by reason.

    Raises:
        CollectionFailed: see `outcome.check`.
    """
    counts = output.write_dropped(folder, parts, index.drop_code)
    outcome.check(counts, folder / output.DROPPED_FILE, settings)
    return counts


def screen(settings: Settings, spool: pathlib.Path) -> Iterator[ScreenedPart]:
    """Screens all parts of the metadata and yields them in order.

    Args:
        settings: names the metadata and the criteria.
        spool: folder for the files of the candidates.
    """
    parts = [part for path in settings.metadata for part in json_stream.parts(path)]
    jobs = [(part, settings.criteria, str(spool / f"{k:05d}")) for k, part in enumerate(parts)]
    workers = max(1, min(settings.workers, len(jobs)))
    batch = max(1, min(_BATCH, len(jobs) // (4 * workers)))  # the criteria are sent with each
    screened = processes.map_in_order(candidates.screen_part, jobs, workers=workers, batch=batch)
    with _progress("metadata", "post") as bar:
        for part in screened:
            bar.update(len(part.id) + len(part.dropped_id))
            yield part


def drop_duplicates(index: Index) -> None:
    """Drops posts whose id came before, then those whose file has a smaller id."""
    first = near_duplicates.first_of_equal(index.id, np.arange(index.size))
    index.drop(~first, filters.DUPLICATE_ID)
    kept = index.kept
    first = near_duplicates.first_of_equal(index.md5[kept], index.id[kept])
    index.drop(kept[~first], filters.DUPLICATE_FILE)


def drop_near_copies(
    index: Index, images: pathlib.Path, *, distance: int, workers: int
) -> dict[int, bytes]:
    """Drops posts without a readable image, then near copies of a post with a smaller id.

    Args:
        index: of the candidates.
        images: folder of the images.
        distance: most bits by which the hashes of near copies differ.
        workers: processes that read images.

    Returns:
        position -> hash of those with a readable image.
    """
    kept = index.kept
    jobs = ((images, name) for name in index.images_of(kept))
    hashed = processes.map_in_order(image_models.hash_image, jobs, workers=workers, batch=_BATCH)
    with _progress("images", "image", len(kept)) as bar:
        hashes = []
        for position, result in zip(kept, hashed, strict=True):
            if isinstance(result, str):
                index.drop(position, result)
            else:
                hashes.append(result)
            bar.update()
    kept = index.kept
    copies = near_duplicates.near_copies(hashes, index.id[kept], distance)
    index.drop(kept[copies], filters.NEAR_COPY)
    return dict(zip(kept.tolist(), hashes, strict=True))


def answer_questions(
    index: Index, images: pathlib.Path, vqa: VqaModel
) -> dict[int, dict[str, str]]:
    """Returns position -> (question -> answer) of the characters with several images."""
    kept = index.kept
    several = np.bincount(index.character[kept], minlength=len(index.names)) > 1
    kept = kept[several[index.character[kept]]]
    answers = image_models.answer_questions(vqa, images, index.images_of(kept))
    with _progress("questions", "image", len(kept)) as bar:
        found = {}
        for position, answer in zip(kept.tolist(), answers, strict=True):
            found[position] = answer
            bar.update()
    return found


def find_partners(
    index: Index,
    rule: Rule,
    *,
    answers: Mapping[int, dict[str, str]] | None,
    hashes: Mapping[int, bytes],
) -> Partners:
    """Finds the `similar` lists and drops posts without a partner.

    Args:
        index: of the candidates.
        rule: which images show the same outfit.
        answers: position -> (question -> answer); None without a VQA model.
        hashes: position -> hash, of those with an image.
    """
    kept = index.kept
    start, parent = np.zeros((2, index.size), np.int64)
    count, ids = np.zeros(index.size, np.int32), array("q")
    with _progress("outfits", "post", len(kept)) as bar:
        for group in index.by_character(kept):
            known = None if answers is None else [answers.get(int(i), {}) for i in group]
            found = outfits.partners(
                index.id[group].tolist(),
                [index.cloths_of(i) for i in group],
                answers=known,
                rule=rule,
                sets=variants.sets(index.key[group].tolist(), [hashes.get(int(i)) for i in group]),
            )
            for i, (row, first) in zip(group, found, strict=True):
                start[i], count[i], parent[i] = len(ids), len(row), first or 0
                ids.extend(row)
            bar.update(len(group))
    index.drop(kept[count[kept] == 0], filters.NO_PARTNER)
    return Partners(start, count, np.array(ids, np.int64), parent)


def detect(
    index: Index, models: Models, *, images: pathlib.Path, masks: pathlib.Path
) -> dict[int, Box | None]:
    """Writes the masks of the kept candidates and returns position -> face.

    Args:
        index: of the candidates.
        models: the detectors.
        images: folder of the images.
        masks: folder for the masks.
    """
    kept = index.kept
    boxes = {}
    with _progress("detectors", "image", len(kept)) as bar:
        for position, name in zip(kept.tolist(), index.images_of(kept), strict=True):
            image = image_models.read_image(images, name)
            boxes[position] = image_models.detect(models, image, masks / f"{name[0]}.png")
            bar.update()
    return boxes


def _progress(step: str, unit: str, total: int | None = None) -> tqdm:
    return tqdm(desc=step, unit=unit, unit_scale=True, total=total, mininterval=1)
