"""The same build on Apache Beam: workers decode pictures, the launcher decides.

Two pipelines run. The first looks at every picture and returns a line for each record: the digest
of its pixels, or what is wrong. From these the launcher writes the manifest, chooses among equal
pictures and stops a build with too many faults, before anything is stored; so the result is that
of `building.examples`, record for record. The second, which TFDS runs, stores what was chosen.
Between launcher and workers go files in a folder that all of them see: no record is in a graph.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator

import apache_beam as beam

from tfds_retribooru.building import examples, splits
from tfds_retribooru.building.examples import Locate, Plan, Read
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.building.rejections import Rejections
from tfds_retribooru.images import Picture

LINES = 2000  # records of a file


def transforms(
    read: Read,
    planned: Plan,
    locate: Locate,
    side: int | None,
    log: Rejections,
    folder: pathlib.Path,
    runner=None,
    options=None,
) -> dict[str, beam.PTransform]:
    """For each split that has records to store, the transform that makes its examples.

    Args:
        read: see building.py; so are planned, locate, side and log.
        planned: by `building.plan`.
        locate: has to be picklable.
        side: of the pictures.
        log: notes faults.
        folder: for files between launcher and workers; is made.
        runner: of Beam, None is its default.
        options: of Beam's pipeline.

    Raises:
        TooManyRejected: see rejections.Rejections.
    """
    folder.mkdir()
    records = enumerate(item for item in read() if isinstance(item, Record))
    work = (dataclasses.asdict(record) | {"number": number} for number, record in records)
    _write(folder / "all", work)
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromText(f"{folder / 'all'}-*")
            | beam.Map(_look, locate=locate, side=side)
            | beam.io.WriteToText(str(folder / "looks"))
        )
    chosen = _choose(folder, planned, log)
    stored = (line for line in _lines(folder / "all") if line["number"] in chosen)
    names: dict[str, list[dict]] = {}
    for line in stored:
        number = line["number"]
        name = splits.SPLITS[planned.split[number]]
        names.setdefault(name, []).append(line | {"similar": planned.similar[number]})
    for name, lines in names.items():
        _write(folder / name, lines)
    return {
        name: beam.io.ReadFromText(f"{folder / name}-*")
        | f"{name}_examples" >> beam.Map(_example, locate=locate, side=side)
        for name in splits.SPLITS
        if name in names
    }


def _write(prefix: pathlib.Path, lines) -> None:
    """JSON lines in files of LINES each."""
    file = None
    for number, line in enumerate(lines):
        if number % LINES == 0:
            if file:
                file.close()
            file = open(f"{prefix}-{number // LINES:06d}", "w", encoding="utf-8")
        file.write(json.dumps(line) + "\n")
    if file:
        file.close()


def _lines(prefix: pathlib.Path) -> Iterator[dict]:
    for path in sorted(prefix.parent.glob(f"{prefix.name}-*")):
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def _record(line: dict) -> Record:
    fields = {key: value for key, value in line.items() if key != "number"}
    lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    return Record(**fields | lists)


def _look(text: str, locate: Locate, side: int | None) -> str:
    """A worker's line about a record."""
    line = json.loads(text)
    picture = examples.picture_of(_record(line), locate, side)
    if isinstance(picture, Picture):
        found = {"digest": picture.digest.hex(), "lost": picture.lost}
    else:
        found = {"reason": picture.reason, "detail": picture.detail[:120]}
    return json.dumps({"number": line["number"]} | found)


def _choose(folder: pathlib.Path, planned: Plan, log: Rejections) -> set[int]:
    """The numbers of the records to store, in the order of `building.examples`."""
    looks = {line["number"]: line for line in _lines(folder / "looks")}
    places = {
        line["number"]: (line["id"], {"file": line["file"], "line": line["line"]})
        for line in _lines(folder / "all")
    }
    chosen, seen = set(), {}
    for number in sorted(looks, key=lambda n: (planned.split[n], n)):
        look, (name, place) = looks[number], places[number]
        if "digest" not in look:
            log.add(Fault(name, look["reason"], **place, detail=look["detail"]))
        elif look["digest"] in seen:
            log.add(Fault(name, examples.SAME_PICTURE, **place, detail=seen[look["digest"]]))
        else:
            for part, reason, detail in look["lost"]:
                log.add(Fault(name, reason, **place, part=part, detail=detail))
            seen[look["digest"]] = name
            chosen.add(number)
    return chosen


def _example(text: str, locate: Locate, side: int | None) -> tuple[str, dict]:
    record = _record(json.loads(text))
    return record.id, examples.example(record, examples.picture_of(record, locate, side))
