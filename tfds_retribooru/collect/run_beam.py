"""The same collection as an Apache Beam pipeline, for more machines than one (extra [beam]).

Every step calls the function that the collection on one machine calls, and nothing depends on order
or on how the work is cut, so the results are equal record for record; only the order of the lines
and the number of files differ. A worker holds one character's posts, or one picture, at a time. All
paths must be the same on every machine: a shared file system or a mounted bucket.
"""

import pathlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from tfds_retribooru import json_stream
from tfds_retribooru.collect import candidates, image_models, near_duplicates, outfits, output
from tfds_retribooru.collect.danbooru import Fault
from tfds_retribooru.collect.filters import Candidate
from tfds_retribooru.collect.settings import Settings
from tfds_retribooru.json_stream import Part

_LOST, _KEYS = "lost", "keys"  # tags of outputs
_PICTURES = 64  # that the VQA model is given at a time


class Found(NamedTuple):
    """A candidate, and the file and line where it stands."""

    post: Candidate
    file: str
    line: int


def collect(
    settings: Settings,
    options: Sequence[str],
    load_models: Callable[[Settings], image_models.Models] = image_models.load_models,
) -> Counter:
    """Writes what `local.collect` writes; arguments, result and errors are its own.

    Args:
        settings: what to do.
        options: of Beam, such as "--runner=DirectRunner".
        load_models: called on each worker.
    """
    if settings.out.exists():
        raise FileExistsError(f"{settings.out} exists: remove it, or name another folder")
    partial = settings.out.with_name(f".{settings.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / output.DROPPED_FILE).parent.mkdir(parents=True)
    pipeline_options = PipelineOptions(list(options))
    pipeline_options.view_as(SetupOptions).save_main_session = False
    with beam.Pipeline(options=pipeline_options) as pipeline:
        annotations, lost = build(pipeline, settings, load_models)
        annotations | "Write annotations" >> beam.io.WriteToText(
            str(partial / "annotations"), ".json", coder=beam.coders.BytesCoder()
        )
        lost | "Write dropped" >> beam.io.WriteToText(
            str(partial / output.DROPPED_FILE),
            num_shards=1,
            shard_name_template="",
            coder=beam.coders.BytesCoder(),
        )
    counts = _count(partial)
    partial.rename(settings.out)
    return counts


def build(pipeline: beam.Pipeline, settings: Settings, load_models):
    """Adds the collection to a pipeline; returns its annotations and what was lost, as lines."""
    parts = [part for path in settings.metadata for part in json_stream.parts(path)]
    screened = (
        pipeline
        | beam.Create(parts)
        | "Spread parts" >> beam.Reshuffle()
        | "Screen" >> beam.FlatMap(_screen, settings.wanted).with_outputs(_LOST, _KEYS, main="main")
    )
    keys = screened[_KEYS] | "Keys once" >> beam.CombinePerKey(min) | beam.MapTuple(_key_row)
    ids = _keep_first(
        screened.main, "ids", output.DUPLICATE_ID, lambda f: f.post.id, lambda f: f[1:]
    )
    files = _keep_first(ids.main, "files", output.DUPLICATE_FILE, _file_key, lambda f: f.post.id)
    lost = [screened[_LOST], keys, ids[_LOST], files[_LOST]]
    left = files.main
    if settings.images:
        left, more = _drop_near_copies(left, settings)
        lost += more
    partnered = (
        left
        | "By character" >> beam.Map(lambda found: (found.post.character, found))
        | "Characters" >> beam.GroupByKey()
        | beam.ParDo(FindPartners(settings, load_models)).with_outputs(_LOST, main="main")
    )
    annotations = (
        partnered.main
        | "Spread posts" >> beam.Reshuffle()
        | beam.ParDo(Annotate(settings, load_models))
    )
    rows = (*lost, partnered[_LOST]) | beam.Flatten()
    return annotations, rows | "Dropped" >> beam.MapTuple(output.dropped)


class FindPartners(beam.DoFn):
    """(character, its posts) -> (post, similar ids); posts without a partner are lost."""

    def __init__(self, settings: Settings, load_models):
        self._settings, self._load = settings, load_models

    def setup(self):
        self._models = self._load(self._settings)

    def process(self, element):
        found = list(element[1])
        said = None
        if self._models.ask and len(found) > 1:
            said = []
            for begin in range(0, len(found), _PICTURES):
                posts = [_picture_key(f) for f in found[begin : begin + _PICTURES]]
                said += image_models.answers(self._models.ask, self._settings.images, posts)
        ids, cloths = [f.post.id for f in found], [f.post.cloths for f in found]
        rows = outfits.partners(ids, cloths, said, self._settings.rule)
        for f, similar in zip(found, rows, strict=True):
            yield (f.post, similar) if similar else _lost(f, output.NO_PARTNER)


class Annotate(beam.DoFn):
    """(post, similar ids) -> a line; detectors look at the picture."""

    def __init__(self, settings: Settings, load_models):
        self._settings, self._load = settings, load_models

    def setup(self):
        self._models = self._load(self._settings)

    def process(self, element):
        post, similar = element
        box = None
        if self._models.face or self._models.figure:
            box = image_models.detect(self._models, self._settings, (post.id, post.file_ext))
        yield output.annotation(post, similar, box)


def _screen(part: Part, wanted) -> Iterator:
    for item in candidates.outcomes(json_stream.read_part(part), wanted):
        if isinstance(item, Fault) and item.reason.startswith("unknown_key"):
            yield beam.pvalue.TaggedOutput(_KEYS, (item.reason, (part.path, item.line)))
        elif isinstance(item, Fault):
            row = item.id, item.reason, part.path, item.line
            yield beam.pvalue.TaggedOutput(_LOST, row)
        elif isinstance(item[2], str):
            line, name, reason = item
            yield beam.pvalue.TaggedOutput(_LOST, (name, reason, part.path, line))
        else:
            line, _, post = item
            yield Found(post, part.path, line)


def _key_row(reason: str, place: tuple[str, int]) -> tuple:
    return ("", reason, *place)


def _keep_first(found, name: str, reason: str, key, order):
    """Of the candidates with one key only the first; the others are lost."""

    def first(element) -> Iterator:
        best, *others = sorted(element[1], key=order)
        yield best
        yield from (_lost(f, reason) for f in others)

    return (
        found
        | f"Key of {name}" >> beam.Map(lambda f: (key(f), f))
        | f"Equal {name}" >> beam.GroupByKey()
        | f"First of {name}" >> beam.FlatMap(first).with_outputs(_LOST, main="main")
    )


def _file_key(found: Found) -> str:
    return found.post.md5 or f"unknown file of {found.post.id}"


def _picture_key(found: Found) -> tuple[int, str]:
    return found.post.id, found.post.file_ext


def _lost(found: Found, reason: str) -> beam.pvalue.TaggedOutput:
    row = found.post.id, reason, found.file, found.line
    return beam.pvalue.TaggedOutput(_LOST, row)


def _drop_near_copies(found, settings: Settings):
    """(what is left, [what is lost]): pictures must be readable and no copy of an earlier post's.

    Hashes with an equal band meet in one group, as in `duplicates.near_copies`.
    """

    def look(f: Found) -> Iterator:
        seen = image_models.hash_of(settings.images, _picture_key(f))
        yield _lost(f, seen) if isinstance(seen, str) else (f, seen)

    def by_band(f: Found, seen: bytes) -> Iterator:
        bits = np.frombuffer(seen, np.uint8)[None]
        for k, band in enumerate(near_duplicates.bands(bits, settings.distance + 1)[0].tolist()):
            yield (k, band), (f.post.id, seen)

    def copies(element) -> Iterator[tuple[int, bool]]:
        ids, hashes = zip(*element[1], strict=True)
        marked = near_duplicates.near_copies(hashes, np.array(ids), settings.distance)
        yield from ((ids[i], True) for i in np.flatnonzero(marked))

    def part(_, groups: dict[str, Iterable]) -> Iterator:
        (f,) = groups["found"]
        yield _lost(f, output.NEAR_COPY) if any(groups["copies"]) else f

    looked = found | "Look" >> beam.FlatMap(look).with_outputs(_LOST, main="main")
    marked = (
        looked.main
        | "Bands" >> beam.FlatMapTuple(by_band)
        | "Equal bands" >> beam.GroupByKey()
        | "Copies" >> beam.FlatMap(copies)
    )
    by_id = looked.main | "By id" >> beam.MapTuple(lambda f, _: (f.post.id, f))
    parted = (
        {"found": by_id, "copies": marked}
        | "Join copies" >> beam.CoGroupByKey()
        | "Drop copies" >> beam.FlatMapTuple(part).with_outputs(_LOST, main="main")
    )
    return parted.main, [looked[_LOST], parted[_LOST]]


def _count(folder: pathlib.Path) -> Counter:
    """Counts of what was written, as `local.collect` returns them."""
    counts: Counter = Counter()
    for path in folder.glob("annotations-*"):
        with open(path, "rb") as file:
            counts["kept"] += sum(1 for _ in file)
    with open(folder / output.DROPPED_FILE, "rb") as file:
        counts.update(document.value["reason"] for document in json_stream.read(file))
    return counts
