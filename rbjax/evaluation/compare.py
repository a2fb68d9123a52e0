"""Paired differences between two evaluations: B - A on the same cases, with intervals.

Two models that are scored on the same cases differ by less than the intervals of either tell,
because hard cases are hard for both. What is resampled are characters, as everywhere.

A case is known by its references, prompt and seed. References are positions in a data set, whose
name both evaluations have; those of manifests are known by what is in their files.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rbjax.evaluation.results import COLUMNS, SCHEMA, label
from rbjax.interop import json_files
from rbjax.metrics import bootstrap
from rbjax.storage import StoredPath

SAME = ("suite", "size", "judge", "asked")  # of results.json
KEY = ("concepts", "prompt", "seed")  # what makes a case, beside its references
ENOUGH = 6  # characters: the bootstrap's interval of fewer is too narrow


class Difference(NamedTuple):
    """B - A of a column.

    Attributes:
        mean: over characters.
        low: of its interval.
        high: of its interval.
        cases: how many have a value in both.
        characters: of these cases.
    """

    mean: float
    low: float
    high: float
    cases: int
    characters: int

    @property
    def is_sure(self) -> bool:
        """Whether 0 is outside the interval, which is of ENOUGH characters."""
        return self.characters >= ENOUGH and (self.low > 0 or self.high < 0)


def read(folder: StoredPath) -> dict[str, Any]:
    """Reads `folder/results.json`.

    Raises:
        FileNotFoundError, ValueError: there is none, it is damaged, or too old to compare.
    """
    path = folder / "results.json" if folder.is_dir() else folder
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: --compare takes two folders of evaluations")
    results = json_files.read(path)
    if "scored" not in results:
        raise ValueError(
            f"{path} holds no values of single images (schema {results.get('schema')}): evaluate "
            "again with this version"
        )
    if results.get("schema") not in range(SCHEMA + 1):
        raise ValueError(f"{path} is of another version of rbjax (schema {results.get('schema')})")
    try:
        _check(results)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return results


def _check(results: Mapping[str, Any]) -> None:
    """Checks what is read of results.

    Raises:
        ValueError: with the row and image that are wrong.
        AttributeError, KeyError, TypeError: a value is of another kind.
    """
    nearest = (results.get("nearest") or {"rows": {}})["rows"]
    for row, images in results["scored"].items():
        for number, image in enumerate(images):
            for name in ("character", "references", "real", *KEY):
                image[name]
            values = (image.get("columns") or {}).items()
            if wrong := [name for name, value in values if not _is_value(value)]:
                raise ValueError(f"row {row!r}, image {number}: {wrong[0]} is no finite number")
        for name, cell in nearest.get(row, {}).items():
            if len(cell["images"]) != len(images):
                raise ValueError(f"row {row!r}: nearest by {name} is of other images")


def _is_value(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def compare(
    first: Mapping[str, Any], second: Mapping[str, Any], rows: tuple[str, str], *, seed: int = 0
) -> dict[str, Difference | None]:
    """Returns column -> second - first; None where no case has a value in both.

    Args:
        first: results of an evaluation, A.
        second: of another, B.
        rows: the system of each that is compared.
        seed: of the resampling.

    Raises:
        ValueError: a row is not there or has a case twice, the evaluations have no case in common,
            or were scored in different ways.
    """
    known = "dataset" in first and "dataset" in second  # older versions did not write it
    for name in (*SAME, *(("dataset",) if known else ())):
        a, b = (_without_folder(results.get(name)) for results in (first, second))
        if a != b:
            raise ValueError(
                f"the two evaluations cannot be compared: {name} is {_short(a)} in the first and "
                f"{_short(b)} in the second"
            )
    images = [_by_case(results, row) for results, row in zip((first, second), rows, strict=True)]
    common = images[0].keys() & images[1].keys()
    if not common:
        raise ValueError(
            "the two evaluations have no case in common (character, references, prompt, seed): "
            "compare the same --suite and options"
        )
    found = {name: _difference(name, images, sorted(common), seed) for name in COLUMNS}
    same = _targets(first) == _targets(second)
    return found | {
        name: _difference(name, images, sorted(common), seed) if same else None
        for name in _nearest_names(first, second)
    }


def table(differences: Mapping[str, Difference | None], names: tuple[str, str]) -> str:
    """Returns the differences as a Markdown table: in percent points, those that are sure marked.

    Args:
        differences: of `compare`.
        names: of A and B.
    """
    lines = [
        f"{names[1]} - {names[0]}, paired, percent points (* the interval excludes 0; given to "
        f"{ENOUGH} characters and more):",
        "| column | difference | cases | characters |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in differences.items():
        if found is None:
            continue
        mean, low, high = (100 * value for value in found[:3])
        text = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]{' *' * found.is_sure}"
        lines.append(f"| {label(name)} | {text} | {found.cases} | {found.characters} |")
    without = ", ".join(label(name) for name, found in differences.items() if found is None)
    if without:
        lines.append(f"Not compared, as no image has a value that can be paired: {without}.")
    lines.append("Similarity and copying are not compared: they are kept by row, not by image.")
    return "\n".join(lines)


def _by_case(results: Mapping[str, Any], row: str) -> dict[str, dict[str, Any]]:
    """Returns what is known of each image of a row, by its case.

    Raises:
        ValueError: there is no such row, or two of its images are of one case.
    """
    if row not in results["scored"]:
        raise ValueError(f"there is no row {row!r}, only {', '.join(results['scored'])}")
    nearest = results.get("nearest") or {"rows": {}}
    found: dict[str, dict[str, Any]] = {}
    for number, image in enumerate(results["scored"][row]):
        values = dict(image.get("columns") or {})
        for name, cell in nearest["rows"].get(row, {}).items():
            hit = cell["images"][number]
            values[_nearest(name)] = None if hit is None else float(hit)
        key = _case(image, results.get("files"))
        if key in found:
            raise ValueError(
                f"images {found[key]['number']} and {number} of the row {row!r} have the same "
                "references, prompt and seed: cases are paired by these; leave one out, or give "
                "each its own seed"
            )
        found[key] = {"character": image["character"], "values": values, "number": number}
    return found


def _case(image: Mapping[str, Any], files: Mapping[str, str] | None) -> str:
    """Returns what makes the case of an image, the same in other evaluations.

    Args:
        image: of `results["scored"]`.
        files: `results["files"]`; None: positions and characters are those of a data set.
    """
    shared = [image[part] for part in KEY]
    if files is None:
        return repr([image["character"], image["references"], *shared])
    return repr([[files[str(position)] for position in image["references"]], *shared])


def _targets(results: Mapping[str, Any]) -> tuple[Any, set[int]]:
    """Returns the real images that `nearest` compares with: positions, and what these name."""
    images = [image for row in results["scored"].values() for image in row if image["prompt"]]
    real = {image["real"] for image in images if image.get("real") is not None}
    return results.get("files"), real


def _without_folder(value: Any) -> Any:
    """Returns a value of SAME; where a judge lies does not matter."""
    return {k: v for k, v in value.items() if k != "folder"} if isinstance(value, dict) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _nearest(name: str) -> str:
    return f"nearest by {name}"


def _nearest_names(*all_results: Mapping[str, Any]) -> list[str]:
    names = [
        _nearest(name)
        for results in all_results
        for cells in (results.get("nearest") or {"rows": {}})["rows"].values()
        for name in cells
    ]
    return list(dict.fromkeys(names))


def _difference(
    column: str, images: list[dict[str, dict[str, Any]]], common: list[str], seed: int
) -> Difference | None:
    by_character: dict[int, list[float]] = {}
    for key in common:
        a, b = (of[key]["values"].get(column) for of in images)
        if a is not None and b is not None:
            by_character.setdefault(images[0][key]["character"], []).append(b - a)
    if not by_character:
        return None
    means = np.array([np.mean(values) for values in by_character.values()])
    bounds = bootstrap.interval(means, seed=seed)
    cases = sum(map(len, by_character.values()))
    return Difference(*bounds, cases=cases, characters=len(means))
