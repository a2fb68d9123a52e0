"""The same collection as an Apache Beam pipeline, for more machines than one (extra [beam]).

Every step calls the function that the collection on one machine calls, and nothing depends on order
or on how the work is cut, so the results are equal record for record; only the order of the lines
and the number of files differ. A worker holds one character's posts, or one image, at a time. All
paths must be the same on every machine: a shared file system or a mounted bucket.
"""

import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import orjson
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from tfds_retribooru import json_stream
from tfds_retribooru.building.records import Fault
from tfds_retribooru.collect import (
    candidates,
    filters,
    image_models,
    near_duplicates,
    outcome,
    outfits,
    output,
)
from tfds_retribooru.collect.filters import Candidate, Criteria
from tfds_retribooru.collect.image_models import ImageName, Models
from tfds_retribooru.collect.settings import Settings
from tfds_retribooru.json_stream import Part

_DROPPED, _KEYS = "dropped", "keys"  # tags of outputs

LoadModels = Callable[[Settings], Models]


class Located(NamedTuple):
    """A candidate, and the file and line where it stands."""

    post: Candidate
    file: str
    line: int

    @property
    def image(self) -> ImageName:
        """The id and file_ext, which name the image."""
        return self.post.id, self.post.file_ext

    def drop(self, reason: str) -> beam.pvalue.TaggedOutput:
        """Returns the arguments of `output.dropped` about this candidate."""
        row = self.post.id, reason, self.file, self.line
        return beam.pvalue.TaggedOutput(_DROPPED, row)


def collect(
    settings: Settings,
    options: Sequence[str],
    load_models: LoadModels = image_models.load_models,
) -> Counter[str]:
    """Writes what `run_local.collect` writes.

    Args:
        settings: what to collect from what.
        options: of Beam, such as "--runner=DirectRunner".
        load_models: called on each worker.

    Returns:
        How many posts were kept ("kept") and, for each reason, dropped or faulty.

    Raises:
        FileExistsError: the folder `settings.out` exists.
        CollectionFailed: nothing was kept, or too much is unreadable.
    """
    pipeline_options = PipelineOptions(list(options))
    pipeline_options.view_as(SetupOptions).save_main_session = False
    with output.new_folder(settings.out) as folder:
        with beam.Pipeline(options=pipeline_options) as pipeline:
            annotations, dropped = build(pipeline, settings, load_models)
            annotations | "Write annotations" >> beam.io.WriteToText(
                str(folder / "annotations"), ".json", coder=beam.coders.BytesCoder()
            )
            dropped | "Write dropped" >> beam.io.WriteToText(
                str(folder / output.DROPPED_FILE),
                num_shards=1,
                shard_name_template="",
                coder=beam.coders.BytesCoder(),
            )
        counts = _count(folder)
        outcome.check(counts, folder / output.DROPPED_FILE, settings)
    return counts


def build(
    pipeline: beam.Pipeline, settings: Settings, load_models: LoadModels
) -> tuple[beam.PCollection, beam.PCollection]:
    """Adds the collection to a pipeline; returns the lines of annotations and of DROPPED_FILE."""
    parts = [part for path in settings.metadata for part in json_stream.parts(path)]
    screened = (
        pipeline
        | beam.Create(parts)
        | "Spread parts" >> beam.Reshuffle()
        | "Screen"
        >> beam.FlatMap(_screen, settings.criteria).with_outputs(_DROPPED, _KEYS, main="main")
    )
    keys = screened[_KEYS] | "Keys once" >> beam.CombinePerKey(min) | beam.MapTuple(_key_row)
    ids, same_id = _keep_first(
        screened.main, filters.DUPLICATE_ID, key=lambda c: c.post.id, order=lambda c: c[1:]
    )
    kept, same_file = _keep_first(
        ids, filters.DUPLICATE_FILE, key=_file_key, order=lambda c: c.post.id
    )
    dropped = [screened[_DROPPED], keys, same_id, same_file]
    if settings.images:
        kept, unreadable, copies = _drop_near_copies(kept, settings.images, settings.distance)
        dropped += [unreadable, copies]
    partnered = (
        kept
        | "By character" >> beam.Map(lambda c: (c.post.character, c))
        | "Characters" >> beam.GroupByKey()
        | beam.ParDo(FindPartners(settings, load_models)).with_outputs(_DROPPED, main="main")
    )
    annotations = (
        partnered.main
        | "Spread posts" >> beam.Reshuffle()
        | beam.ParDo(Annotate(settings, load_models))
    )
    rows = (*dropped, partnered[_DROPPED]) | beam.Flatten()
    return annotations, rows | "Dropped" >> beam.MapTuple(output.dropped)


class _WithModels(beam.DoFn):
    """A step whose workers open the models once."""

    def __init__(self, settings: Settings, load_models: LoadModels) -> None:
        self._settings, self._load = settings, load_models

    def setup(self) -> None:
        """Opens the models."""
        self._models = self._load(self._settings)


class FindPartners(_WithModels):
    """(character, its posts) -> (post, similar ids); drops posts without a partner."""

    def process(self, element: tuple[str, Iterable[Located]]) -> Iterator:
        """Yields the posts of one character."""
        group = list(element[1])
        answers = None
        vqa, images = self._models.vqa, self._settings.images
        if vqa and images and len(group) > 1:
            names = [candidate.image for candidate in group]
            answers = list(image_models.answer_questions(vqa, images, names))
        ids, cloths = [c.post.id for c in group], [c.post.cloths for c in group]
        rows = outfits.partners(ids, cloths, answers=answers, rule=self._settings.rule)
        for candidate, similar in zip(group, rows, strict=True):
            yield (candidate, similar) if similar else candidate.drop(filters.NO_PARTNER)


class Annotate(_WithModels):
    """(post, similar ids) -> a line of annotations; runs the detectors."""

    def process(self, element: tuple[Located, list[int]]) -> Iterator[bytes]:
        """Yields the annotation of one post."""
        candidate, similar = element
        box, images = None, self._settings.images
        if images and (self._models.detect_face or self._models.segment_figure):
            image = image_models.read_image(images, candidate.image)
            mask = self._settings.mask_folder / f"{candidate.post.id}.png"
            box = image_models.detect(self._models, image, mask)
        yield output.annotation(candidate.post, similar, box)


def _screen(part: Part, criteria: Criteria) -> Iterator:
    for item in candidates.screen(json_stream.read_part(part), criteria):
        if isinstance(item, Fault) and item.reason.startswith("unknown_key"):
            yield beam.pvalue.TaggedOutput(_KEYS, (item.reason, (part.path, item.line)))
        elif isinstance(item, Fault):
            row = item.id, item.reason, part.path, item.line
            yield beam.pvalue.TaggedOutput(_DROPPED, row)
        elif isinstance(item.result, str):
            row = item.id, item.result, part.path, item.line
            yield beam.pvalue.TaggedOutput(_DROPPED, row)
        else:
            yield Located(item.result, part.path, item.line)


def _key_row(reason: str, place: tuple[str, int]) -> tuple[str, str, str, int]:
    return ("", reason, *place)


def _keep_first(
    posts: beam.PCollection,
    reason: str,
    *,
    key: Callable[[Located], Any],
    order: Callable[[Located], Any],
) -> tuple[beam.PCollection, beam.PCollection]:
    """Keeps of the candidates with one key the first; returns (kept, rows of the others)."""

    def first(element: tuple[Any, Iterable[Located]]) -> Iterator:
        best, *others = sorted(element[1], key=order)
        yield best
        yield from (other.drop(reason) for other in others)

    outputs = (
        posts
        | f"Key of {reason}" >> beam.Map(lambda c: (key(c), c))
        | f"Group {reason}" >> beam.GroupByKey()
        | f"First of {reason}" >> beam.FlatMap(first).with_outputs(_DROPPED, main="main")
    )
    return outputs.main, outputs[_DROPPED]


def _file_key(candidate: Located) -> str:
    return candidate.post.md5 or f"unknown file of {candidate.post.id}"


def _drop_near_copies(
    posts: beam.PCollection, images: pathlib.Path, distance: int
) -> tuple[beam.PCollection, beam.PCollection, beam.PCollection]:
    """Drops posts without a readable image, then near copies of a post with a smaller id.

    Hashes with an equal band meet in one group, as in `near_duplicates.near_copies`.

    Returns:
        The kept candidates, then the rows of both kinds of dropped ones.
    """

    def hash_image(candidate: Located) -> Iterator:
        result = image_models.hash_image(images, candidate.image)
        yield candidate.drop(result) if isinstance(result, str) else (candidate, result)

    def by_band(candidate: Located, hashed: bytes) -> Iterator:
        bits = np.frombuffer(hashed, np.uint8)[None]
        for k, band in enumerate(near_duplicates.bands(bits, distance + 1)[0].tolist()):
            yield (k, band), (candidate.post.id, hashed)

    def copies(element: tuple[Any, Iterable[tuple[int, bytes]]]) -> Iterator[tuple[int, bool]]:
        ids, hashes = zip(*element[1], strict=True)
        marked = near_duplicates.near_copies(hashes, np.array(ids), distance)
        yield from ((ids[i], True) for i in np.flatnonzero(marked))

    def drop_copies(_: int, groups: dict[str, Iterable]) -> Iterator:
        (candidate,) = groups["posts"]
        yield candidate.drop(filters.NEAR_COPY) if any(groups["copies"]) else candidate

    hashed = posts | "Hash" >> beam.FlatMap(hash_image).with_outputs(_DROPPED, main="main")
    marked = (
        hashed.main
        | "Bands" >> beam.FlatMapTuple(by_band)
        | "Equal bands" >> beam.GroupByKey()
        | "Copies" >> beam.FlatMap(copies)
    )
    by_id = hashed.main | "By id" >> beam.MapTuple(lambda c, _: (c.post.id, c))
    outputs = (
        {"posts": by_id, "copies": marked}
        | "Join copies" >> beam.CoGroupByKey()
        | "Drop copies" >> beam.FlatMapTuple(drop_copies).with_outputs(_DROPPED, main="main")
    )
    return outputs.main, hashed[_DROPPED], outputs[_DROPPED]


def _count(folder: pathlib.Path) -> Counter[str]:
    """Counts what was written, as `run_local.collect` does."""
    counts: Counter[str] = Counter()
    for path in folder.glob("annotations-*"):
        with open(path, "rb") as file:
            counts["kept"] += sum(1 for _ in file)
    with open(folder / output.DROPPED_FILE, "rb") as file:
        counts.update(orjson.loads(line)["reason"] for line in file)
    return counts
