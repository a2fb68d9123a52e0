"""Which of N real images is an image nearest to: a score that needs no question and no label.

Each case may have a real image of its character in its outfit. Among it and one real image of each
of N - 1 other characters, the generated image should be nearest to the first. The distance is that
of pixels, or of embeddings. Chance is 1 / N. An image that is not finite, or missing, is counted as
unscored.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rbjax.evaluation.baselines import SystemImages
from rbjax.evaluation.suite import Case
from rbjax.metrics import bootstrap

TARGETS = 64  # N at most

# N images, float32 [N, H, W, 3] in [-1, 1] -> N vectors [N, D]
Embed = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Targets:
    """The real images that others are compared with.

    Attributes:
        images: float32 [P, H, W, 3] in [-1, 1].
        row: position of a record -> its row in `images`.
        choices: position of a case's real image -> positions of the N that it is told from, itself
            first.
    """

    images: np.ndarray
    row: Mapping[int, int]
    choices: Mapping[int, tuple[int, ...]]

    @classmethod
    def of(
        cls,
        cases: Sequence[Case],
        read_images: Callable[[Sequence[int]], np.ndarray],
        *,
        seed: int = 0,
    ) -> "Targets | None":
        """Draws the targets of cases; None if fewer than two characters have a real image.

        Args:
            cases: of a suite.
            read_images: reads real images.
            seed: of the draws.
        """
        wanted = [case for case in cases if not case.is_open]  # an open one is of any outfit
        real = {case.real: case.character for case in wanted if case.real is not None}
        by_character: dict[int, list[int]] = {}
        for position, character in real.items():
            by_character.setdefault(character, []).append(position)
        if len(by_character) < 2:
            return None
        choices = {}
        for position, character in real.items():
            rng = np.random.default_rng([seed, position])
            others = [other for other in by_character if other != character]
            drawn = rng.permutation(len(others))[: TARGETS - 1]
            choices[position] = (
                position,
                *(
                    by_character[others[i]][rng.integers(len(by_character[others[i]]))]
                    for i in drawn
                ),
            )
        positions = sorted(real)
        row = {position: i for i, position in enumerate(positions)}
        return cls(read_images(positions), row, choices)

    @property
    def count(self) -> int:
        """N."""
        return len(next(iter(self.choices.values())))


def of_systems(
    systems: Mapping[str, SystemImages],
    cases: Sequence[Case],
    read_images: Callable[[Sequence[int]], np.ndarray],
    embeddings: Mapping[str, Embed],
) -> dict[str, Any] | None:
    """Returns `score` of systems; None where there are no targets to tell apart.

    Args:
        systems: the rows; those whose cases have no real image are left out.
        cases: of the suite.
        read_images: reads real images.
        embeddings: as of `score`.
    """
    targets = Targets.of(cases, read_images)
    if targets is None:
        return None
    rows = {
        name: (system.images, system.cases)
        for name, system in systems.items()
        if any(_has_target(case, targets) for case in system.cases)
    }
    return score(rows, targets, embeddings) if rows else None


def _has_target(case: Case, targets: Targets) -> bool:
    """Whether a case asks for what one of the targets shows."""
    return case.real in targets.row and not case.is_open


def score(
    systems: Mapping[str, tuple[np.ndarray, Sequence[Case]]],
    targets: Targets,
    embeddings: Mapping[str, Embed],
    *,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Scores the images of systems.

    Args:
        systems: name -> (images float32 [N, H, W, 3] in [-1, 1], their cases).
        targets: of the suite.
        embeddings: name -> what makes vectors that are compared by their cosine; "pixels" is always
            there beside them.
        resamples: of the bootstrap.

    Returns:
        {"targets": N, "chance": 1 / N, "rows": {system: {distance: {"mean", "low", "high",
        "unscored", "images": [null or whether each image is nearest to its own]}}}}.
    """
    spaces = {name: _unit(embed(targets.images)) for name, embed in embeddings.items()}
    rows = {}
    for system, (images, cases) in systems.items():
        sound = np.isfinite(images).reshape(len(images), -1).all(axis=1)
        usable = np.array([_has_target(case, targets) for case in cases], bool) & sound
        rows[system] = {
            "pixels": _cell(
                usable, cases, resamples, _nearest_pixels(images, cases, usable, targets)
            )
        }
        for name, embed in embeddings.items():
            found: list[bool] = []
            if usable.any():
                vectors = _unit(embed(images[usable]))
                kept = [case for case, is_usable in zip(cases, usable, strict=True) if is_usable]
                found = [
                    _is_first(-(spaces[name][_rows(case, targets)] @ vector))
                    for case, vector in zip(kept, vectors, strict=True)
                ]
            rows[system][name] = _cell(usable, cases, resamples, found)
    return {"targets": targets.count, "chance": 1 / targets.count, "rows": rows}


def table(nearest: Mapping[str, Any]) -> str:
    """Returns the scores as a Markdown table, in percent."""
    names = list(next(iter(nearest["rows"].values())))
    lines = [
        f"Nearest of {nearest['targets']} real images (chance {100 * nearest['chance']:.1f}):",
        "| | " + " | ".join(f"by {name}" for name in names) + " | unscored images |",
        "| --- " * (len(names) + 2) + "|",
    ]
    for system, cells in nearest["rows"].items():
        values = [_percent(cells[name]) for name in names]
        unscored = cells[names[0]]["unscored"]
        lines.append(f"| {system.replace('_', ' ')} | {' | '.join(values)} | {unscored} |")
    return "\n".join(lines)


def _percent(cell: Mapping[str, Any]) -> str:
    if cell["mean"] is None:
        return "–"
    mean, low, high = (100 * cell[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def _nearest_pixels(
    images: np.ndarray, cases: Sequence[Case], usable: np.ndarray, targets: Targets
) -> list[bool]:
    """Returns whether each usable image has the least squared error to its own target."""
    found = []
    for number in np.flatnonzero(usable).tolist():
        choices = targets.images[_rows(cases[number], targets)]
        found.append(_is_first(((choices - images[number]) ** 2).mean(axis=(1, 2, 3))))
    return found


def _rows(case: Case, targets: Targets) -> list[int]:
    assert case.real is not None  # usable
    return [targets.row[position] for position in targets.choices[case.real]]


def _is_first(distances: np.ndarray) -> bool:
    """Whether the first distance is less than every other: a tie is not found."""
    return bool(distances[0] < distances[1:].min()) and bool(np.isfinite(distances).all())


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64).reshape(len(vectors), -1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _cell(
    usable: np.ndarray, cases: Sequence[Case], resamples: int, found: Sequence[bool]
) -> dict[str, Any]:
    """Returns the mean over characters, and what was found of each image."""
    images: list[bool | None] = [None] * len(cases)
    by_character: dict[int, list[bool]] = {}
    for number, hit in zip(np.flatnonzero(usable).tolist(), found, strict=True):
        images[number] = hit
        by_character.setdefault(cases[number].character, []).append(hit)
    means = np.array([np.mean(hits) for hits in by_character.values()])
    bounds = bootstrap.interval(means, seed=0, resamples=resamples) if len(means) else (None,) * 3
    due = sum(case.real is not None and not case.is_open for case in cases)
    return {
        **dict(zip(("mean", "low", "high"), bounds, strict=True)),
        "unscored": due - len(found),
        "images": images,
    }
