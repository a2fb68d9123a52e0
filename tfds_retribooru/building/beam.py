"""The same build on Apache Beam: workers decode images, the launcher decides.

Two pipelines run. The first decodes every image and returns a line for each record: the digest of
its pixels, or what is wrong. From these the launcher writes the manifest, chooses among equal
images and stops a build with too many faults, before anything is stored; so the result is that of
`building.examples`, record for record. The second, which TFDS runs, stores what was chosen.
Between launcher and workers go files in a folder that all of them see: no record is in a graph.
"""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from tfds_retribooru import variants
from tfds_retribooru.building import examples, splits
from tfds_retribooru.building.examples import Plan, Source
from tfds_retribooru.building.records import Record
from tfds_retribooru.building.rejections import Rejections
from tfds_retribooru.building.stored import Stored
from tfds_retribooru.images import Unreadable

LINES = 2000  # records of a file


def transforms(
    source: Source,
    plan: Plan,
    *,
    log: Rejections,
    folder: pathlib.Path,
    runner: str | beam.runners.PipelineRunner | None = None,
    options: PipelineOptions | None = None,
    names: Sequence[str],
) -> dict[str, beam.PTransform]:
    """Returns, for each split with records to store, the transform that makes its examples.

    Args:
        source: is pickled.
        plan: of the same source, by `examples.plan_splits`.
        log: collects the faults.
        folder: for files between launcher and workers; is made.
        runner: of Beam, None is its default.
        options: of Beam's pipeline.
        names: of the features to store.

    Raises:
        TooManyRejected: see rejections.Rejections.
        ValueError: the records have changed.
    """
    folder.mkdir()
    numbered = enumerate(record for record, _, _ in plan.rows(source))
    _write(folder / "all", (dataclasses.asdict(r) | {"number": n} for n, r in numbered))
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromText(f"{folder / 'all'}-*")
            | beam.Map(_inspect, source=source)
            | beam.io.WriteToText(str(folder / "inspected"))
        )
    chosen = _choose(folder, plan, log)
    chosen_lines: dict[str, list[dict]] = {}
    for line in _lines(folder / "all"):
        if (number := line["number"]) in chosen:
            name = splits.SPLITS[plan.split[number]]
            chosen_lines.setdefault(name, []).append(line | {"similar": plan.similar[number]})
    for name, lines in chosen_lines.items():
        _write(folder / name, lines)
    return {
        name: beam.io.ReadFromText(f"{folder / name}-*")
        | f"{name}_examples" >> beam.Map(_example, source=source, names=names)
        for name in splits.SPLITS
        if name in chosen_lines
    }


def _write(prefix: pathlib.Path, lines: Iterable[dict[str, Any]]) -> None:
    """Writes JSON lines in files of LINES each."""
    lines = iter(lines)
    for number in itertools.count():
        part = list(itertools.islice(lines, LINES))
        if not part:
            return
        text = "".join(json.dumps(line) + "\n" for line in part)
        pathlib.Path(f"{prefix}-{number:06d}").write_text(text, encoding="utf-8")


def _lines(prefix: pathlib.Path) -> Iterator[dict[str, Any]]:
    for path in sorted(prefix.parent.glob(f"{prefix.name}-*")):
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def _record(line: dict[str, Any]) -> Record:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in line.items()
        if key != "number"
    }
    return Record(**fields)


def _inspect(text: str, source: Source) -> str:
    """Returns a worker's line about a record."""
    line = json.loads(text)
    image = source.image_of(_record(line))
    if isinstance(image, Unreadable):
        found = {"reason": image.reason, "detail": image.detail}
    else:
        found = {
            "digest": image.digest.hex(),
            "hash": image.hash.hex(),
            "faults": image.faults,
            "has_mask": image.mask is not None,
        }
    return json.dumps({"number": line["number"]} | found)


def _choose(folder: pathlib.Path, plan: Plan, log: Rejections) -> set[int]:
    """Returns the numbers of the records to store; logs faults as `building.examples` does."""
    inspected = {line["number"]: line for line in _lines(folder / "inspected")}
    records = {
        line["number"]: Record(
            line["id"],
            line["character"],
            file=line["file"],
            line=line["line"],
            relatives=tuple(line["relatives"]),
        )
        for line in _lines(folder / "all")
    }
    chosen: set[int] = set()
    kept = Stored(plan.variant_keys)
    for number in sorted(inspected, key=lambda n: (plan.split[n], n)):
        line, record = inspected[number], records[number]
        if "digest" not in line:
            log.add(record.fault(line["reason"], detail=line["detail"]))
            continue
        found = {name: bytes.fromhex(line[name]) for name in ("digest", "hash")}
        split = splits.SPLITS[plan.split[number]]
        if fault := kept.fault(split, record, digest=found["digest"], hashed=found["hash"]):
            log.add(fault)
        else:
            log.add_image(record, line["faults"], has_mask=line["has_mask"])
            kept.add(split, record, digest=found["digest"], hashed=found["hash"])
            variants.append(log.path.parent, record.id, record.relatives, found["hash"])
            chosen.add(number)
    log.check_parts()
    return chosen


def _example(text: str, source: Source, names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    record = _record(json.loads(text))
    image = source.image_of(record)
    if isinstance(image, Unreadable):  # it could be read a moment ago
        raise image
    example = examples.example(record, image)
    return record.id, {name: example[name] for name in names}
