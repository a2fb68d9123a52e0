"""What the report shows, from `results.json` and the images that were saved beside it."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rbjax.evaluation import guidance_curve, plots, saved_images
from rbjax.evaluation.baselines import CONTROLS
from rbjax.evaluation.results import COLUMNS
from rbjax.evaluation.variants import VARIANTS
from rbjax.storage import StoredPath

RANKED_BY = ("vqa_flexibility", "outfit_agreement", "identity_agreement")
STRIP = 8  # images of a row

Part = dict[str, Any]


def groups(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the rows by group: "compared" (other systems too), "variants", "controls"."""
    rows = list(results["rows"])
    return {
        "compared": [row for row in rows if row not in (*CONTROLS, *VARIANTS)],
        "variants": [row for row in VARIANTS if row in rows],
        "controls": [row for row in CONTROLS if row in rows],
    }


def bars(results: Mapping[str, Any], rows: Sequence[str]) -> dict[str, list[Part]]:
    """Returns for each column a bar of each row that has a value: percent, cut to 0 to 100."""
    shown: dict[str, list[Part]] = {}
    for column in COLUMNS:
        cells = [(row, results["rows"][row][column]) for row in rows]
        shown[column] = [
            {"row": row, "value": 100 * cell["mean"]}
            | {name: min(max(100 * cell[name], 0), 100) for name in ("mean", "low", "high")}
            for row, cell in cells
            if cell is not None
        ]
    return {column: found for column, found in shown.items() if found}


def examples(folder: StoredPath, results: Mapping[str, Any], characters: int) -> list[Part]:
    """Returns for each of the first characters its references, generated images and targets."""
    records = [
        (number, record)
        for number, record in enumerate(results["scored"].get("trained", ()))
        if record["prompt"] and not record["repeat"]
    ]
    by_character = groupby(records, key=lambda pair: pair[1]["character"])
    return [_example(folder, "trained", list(group)) for _, group in by_character][:characters]


def extremes(
    folder: StoredPath, results: Mapping[str, Any], count: int = 4
) -> dict[str, list[Part]]:
    """Returns the model's best and worst images: mean of RANKED_BY, at equal means the first."""
    ranked = []
    for number, record in enumerate(results["scored"].get("trained", ())):
        values = [record.get("columns", {}).get(name) for name in RANKED_BY]
        found = [value for value in values if value is not None]
        if found:
            ranked.append((sum(found) / len(found), number, record))
    worst = sorted(ranked, key=lambda item: (item[0], item[1]))[:count]
    best = sorted(ranked, key=lambda item: (-item[0], item[1]))[:count]
    return {
        name: [
            {"score": 100 * score} | _example(folder, "trained", [(number, record)])
            for score, number, record in items
        ]
        for name, items in (("best", best), ("worst", worst))
        if items
    }


def strips(folder: StoredPath, results: Mapping[str, Any]) -> dict[str, list[Part]]:
    """Returns the first images of every row that was made."""
    shown = {}
    for row, records in results["scored"].items():
        pairs = [(n, r) for n, r in enumerate(records) if not r["repeat"]][:STRIP]
        shown[row] = [_image(folder, row, number, record) for number, record in pairs]
    return shown


def seeds(results: Mapping[str, Any], rows: Sequence[str]) -> dict[str, dict[str, str]]:
    """Returns for rows with several sampling seeds the lowest and highest mean of a seed."""
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        cells = {name: results["rows"][row][name] for name in COLUMNS}
        several = {name: c["seeds"] for name, c in cells.items() if c and len(c["seeds"]) > 1}
        if several:
            table[row] = {
                name: f"{100 * min(means):.1f} to {100 * max(means):.1f}"
                for name, means in several.items()
            }
    return table


def confusion(results: Mapping[str, Any], row: str) -> dict[str, Part]:
    """Returns for each attribute the wanted and given answers, and how often each pair came."""
    shown = {}
    for name, counts in results["confusion"].get(row, {}).items():
        given = sorted(set(counts) | {answer for found in counts.values() for answer in found})
        shown[name] = {
            "given": given,
            "rows": [(w, [found.get(g, 0) for g in given]) for w, found in counts.items()],
            "right": sum(found.get(wanted, 0) for wanted, found in counts.items())
            / sum(sum(found.values()) for found in counts.values()),
        }
    return shown


def guidance(results: Mapping[str, Any]) -> Part | None:
    """Returns "plot", the `src` of what guidance trades, and "cases"; None where it is not known.

    The plot shows percent: the prompt's values and diversity over agreement with the references.
    """
    found = results.get("guidance")
    if not found:
        return None
    curves: dict[str, list[Part]] = {name: [] for name in found["curves"]}
    agreement, *upwards = "agreement with the references", "VQA flexibility", "seed diversity"
    for name, points in found["curves"].items():
        for point in points:
            values = [guidance_curve.similarity(point)]
            cells = (point[column] for column in ("vqa_flexibility", "seed_diversity"))
            values += [cell and cell["mean"] for cell in cells]
            percents = [None if value is None else 100 * value for value in values]
            curves[name].append(point | dict(zip((agreement, *upwards), percents, strict=True)))
    drawn = png_uri(plots.guidance(curves, agreement, upwards))
    return {"plot": drawn, "cases": found["cases"]}


def variety(results: Mapping[str, Any], row: str) -> dict[str, list[tuple[str, float, float]]]:
    """Returns for each attribute (answer, percent of generated, percent of real images)."""
    shown = {}
    for name, of in results["variety"].get(row, {}).items():
        totals = {source: max(sum(counts.values()), 1) for source, counts in of.items()}
        answers = sorted(set(of["generated"]) | set(of["real"]))
        shown[name] = [
            (answer, *(100 * of[s].get(answer, 0) / totals[s] for s in ("generated", "real")))
            for answer in answers
        ]
    return shown


def uri(path: StoredPath) -> str:
    """Returns a PNG file as the `src` of an HTML image."""
    return png_uri(path.read_bytes())


def png_uri(data: bytes) -> str:
    """Returns the bytes of a PNG file as the `src` of an HTML image."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _example(folder: StoredPath, row: str, records: Sequence[tuple[int, Part]]) -> Part:
    """Returns references, images and targets of the records of one character."""
    first = records[0][1]
    pairs = zip(first["references"], first["concepts"], strict=True)
    real = dict.fromkeys(r["real"] for _, r in records if r["real"] is not None)
    return {
        "references": [_real(folder, position, concept) for position, concept in pairs],
        "generated": [_image(folder, row, number, record) for number, record in records],
        "targets": [_real(folder, position, "") for position in real],
    }


def _real(folder: StoredPath, position: int, caption: str) -> Part:
    path = saved_images.of_record(folder, position)
    return {"uri": uri(path), "caption": caption, "questions": []}


def _image(folder: StoredPath, row: str, number: int, record: Part) -> Part:
    return {
        "uri": uri(saved_images.of_system(folder, row, number)),
        "caption": record.get("fault") or ", ".join(record["prompt"]) or "empty prompt",
        "questions": list(_questions(record)),
    }


def _questions(record: Part) -> Iterable[tuple[str, str, str, bool]]:
    """Yields (attribute, wanted answer, given answer, whether they are equal)."""
    for answers in record.get("expected", {}).values():
        for name, wanted in answers.items():
            given = record["given"].get(name)
            if given is not None:
                yield name, wanted, given or "(no word)", given == wanted
    for phrase, probability in record.get("phrases", {}).items():
        yield f"is there {phrase}?", "yes", f"{100 * probability:.0f} %", probability > 0.5
