"""The same collection as an Apache Beam pipeline, for more machines than one (extra [beam]).

Every step calls the function that the collection on one machine calls, and nothing depends on order
or on how the work is cut, so the results are equal record for record; only the order of the lines
and the number of files differ. A worker holds one character's posts, or one image, at a time. All
paths must be the same on every machine: a shared file system or a mounted bucket.
"""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import apache_beam as beam
import orjson
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from tfds_retribooru import json_stream, variants
from tfds_retribooru.building.records import Fault
from tfds_retribooru.collect import (
    beam_steps,
    candidates,
    filters,
    image_models,
    outcome,
    outfits,
    output,
)
from tfds_retribooru.collect.beam_steps import DROPPED, Located
from tfds_retribooru.collect.filters import Criteria
from tfds_retribooru.collect.image_models import Models
from tfds_retribooru.collect.settings import Settings
from tfds_retribooru.json_stream import Part

_KEYS, _LINKS = "keys", "links"  # tags of outputs, beside DROPPED

LoadModels = Callable[[Settings], Models]


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
        CollectionFailed: too little was kept, or too much is unreadable.
    """
    pipeline_options = PipelineOptions(list(options))
    pipeline_options.view_as(SetupOptions).save_main_session = False
    with output.new_folder(settings.out) as folder:
        inside = dataclasses.replace(settings, masks=folder / output.MASKS)
        with beam.Pipeline(options=pipeline_options) as pipeline:
            annotations, dropped = build(pipeline, inside, load_models)
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
        output.move_masks(folder, settings.mask_folder)
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
        >> beam.FlatMap(_screen, settings.criteria).with_outputs(
            DROPPED, _KEYS, _LINKS, main="main"
        )
    )
    keys = screened[_KEYS] | "Keys once" >> beam.CombinePerKey(min) | beam.MapTuple(_key_row)
    ids, same_id = beam_steps.keep_first(
        screened.main, filters.DUPLICATE_ID, key=lambda c: c.post.id, order=lambda c: c[1:]
    )
    kept, same_file = beam_steps.keep_first(
        ids, filters.DUPLICATE_FILE, key=_file_key, order=lambda c: c.post.id
    )
    dropped = [screened[DROPPED], keys, same_id, same_file]
    if settings.images:
        kept, unreadable, copies = beam_steps.drop_near_copies(
            kept, settings.images, settings.distance
        )
        dropped += [unreadable, copies]
    partnered = (
        beam_steps.with_keys(kept, screened[_LINKS])
        | "By character" >> beam.Map(lambda c: (c.post.character, c))
        | "Characters" >> beam.GroupByKey()
        | beam.ParDo(FindPartners(settings, load_models)).with_outputs(DROPPED, main="main")
    )
    annotations = (
        partnered.main
        | "Spread posts" >> beam.Reshuffle()
        | beam.ParDo(Annotate(settings, load_models))
    )
    rows = (*dropped, partnered[DROPPED]) | beam.Flatten()
    return annotations, rows | "Dropped" >> beam.MapTuple(output.dropped)


class _WithModels(beam.DoFn):
    """A step whose workers open the models once."""

    def __init__(self, settings: Settings, load_models: LoadModels) -> None:
        self._settings, self._load = settings, load_models

    def setup(self) -> None:
        """Opens the models."""
        self._models = self._load(self._settings)


class FindPartners(_WithModels):
    """(character, its posts) -> (post, what `outfits.partners` finds); drops those without any."""

    def process(self, element: tuple[str, Iterable[Located]]) -> Iterator:
        """Yields the posts of one character."""
        group = list(element[1])
        answers = None
        vqa, images = self._models.vqa, self._settings.images
        if vqa and images and len(group) > 1:
            names = [candidate.image for candidate in group]
            answers = list(image_models.answer_questions(vqa, images, names))
        ids, cloths = [c.post.id for c in group], [c.post.cloths for c in group]
        rows = outfits.partners(
            ids,
            cloths,
            answers=answers,
            rule=self._settings.rule,
            sets=variants.sets([c.key for c in group], [c.hashed for c in group]),
        )
        for candidate, row in zip(group, rows, strict=True):
            yield (candidate, row) if row[0] else candidate.drop(filters.NO_PARTNER)


class Annotate(_WithModels):
    """What FindPartners yields -> a line of annotations; runs the detectors."""

    def process(self, element: tuple[Located, tuple[list[int], int | None]]) -> Iterator[bytes]:
        """Yields the annotation of one post."""
        candidate, (similar, parent) = element
        box, images = None, self._settings.images
        if images and (self._models.detect_face or self._models.segment_figure):
            image = image_models.read_image(images, candidate.image)
            mask = self._settings.mask_folder / f"{candidate.post.id}.png"
            box = image_models.detect(self._models, image, mask)
        yield output.annotation(candidate.post, similar, box, parent=parent)


def _screen(part: Part, criteria: Criteria) -> Iterator:
    for item in candidates.screen(json_stream.read_part(part), criteria):
        if isinstance(item, Fault):
            if item.reason.startswith("unknown_key"):
                yield beam.pvalue.TaggedOutput(_KEYS, (item.reason, (part.path, item.line)))
            else:
                row = item.id, item.reason, part.path, item.line
                yield beam.pvalue.TaggedOutput(DROPPED, row)
            continue
        for relative in item.relatives:
            yield beam.pvalue.TaggedOutput(_LINKS, (item.id, relative))
        if isinstance(item.result, str):
            row = item.id, item.result, part.path, item.line
            yield beam.pvalue.TaggedOutput(DROPPED, row)
        else:
            yield Located(item.result, part.path, item.line)


def _key_row(reason: str, place: tuple[str, int]) -> tuple[str, str, str, int]:
    return ("", reason, *place)


def _file_key(candidate: Located) -> str:
    return candidate.post.md5 or f"unknown file of {candidate.post.id}"


def _count(folder: pathlib.Path) -> Counter[str]:
    """Counts what was written, as `run_local.collect` does."""
    counts: Counter[str] = Counter()
    for path in folder.glob("annotations-*"):
        with open(path, "rb") as file:
            counts["kept"] += sum(1 for _ in file)
    with open(folder / output.DROPPED_FILE, "rb") as file:
        counts.update(orjson.loads(line)["reason"] for line in file)
    return counts
