"""The images that are compared: those of the model, of its controls, and real ones.

The rows are described in `rbjax/evaluation/results.py`.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from rbjax.evaluation.suite import CLOTHES, Case, Suite

ROWS = ("trained", "references_blanked", "other_references", "copy_reference", "real_images")

Images = Callable[[Sequence[int]], np.ndarray]


class Generate(Protocol):
    """What makes images of cases."""

    def __call__(
        self, cases: Sequence[Case], blank: bool, swap: Sequence[Case] | None
    ) -> np.ndarray:
        """Returns float32[N, H, W, 3] in [-1, 1].

        Args:
            cases: N cases; prompt and seed are theirs.
            blank: leave the references out.
            swap: N cases whose references take the place of the cases' own, or None.
        """


@dataclasses.dataclass(frozen=True)
class Row:
    """Images float32[N, H, W, 3] in [-1, 1] and the N cases that they are judged by."""

    images: np.ndarray
    cases: tuple[Case, ...]


def collect(
    generate: Generate, suite: Suite, images: Images, rows: Sequence[str] = ROWS
) -> dict[str, Row]:
    """Makes the images of the rows; a row that would have none is left out.

    Args:
        generate: the model.
        suite: the cases.
        images: positions of records to their whole images at the generated size.
        rows: some of ROWS.

    Raises:
        ValueError: for an unknown row, or `other_references` with one character.
    """
    if unknown := set(rows) - set(ROWS):
        raise ValueError(f"unknown rows {sorted(unknown)}; rows are {', '.join(ROWS)}.")
    cases = suite.cases
    real = [case for case in cases if case.real is not None]
    make = {
        "trained": lambda: Row(generate(cases, False, None), cases),
        "references_blanked": lambda: Row(generate(cases, True, None), cases),
        "other_references": lambda: Row(generate(cases, False, others(cases)), cases),
        "copy_reference": lambda: Row(images(copied(cases)), cases),
        "real_images": lambda: Row(
            images([case.real for case in real]),
            tuple(_judged_by_itself(case, suite) for case in real),
        ),
    }
    wanted = [row for row in ROWS if row in rows and (real or row != "real_images")]
    return {row: make[row]() for row in wanted}


def others(cases: Sequence[Case]) -> list[Case]:
    """Returns for each case one of the next character (cyclically).

    Raises:
        ValueError: if there is only one character.
    """
    first = {case.character: case for case in reversed(cases)}
    characters = list(dict.fromkeys(case.character for case in cases))
    if len(characters) < 2:
        raise ValueError("references of another character need two characters in the suite.")
    following = dict(zip(characters, characters[1:] + characters[:1], strict=True))
    return [first[following[case.character]] for case in cases]


def copied(cases: Sequence[Case]) -> list[int]:
    """Returns for each case the position of the reference that the leak baseline copies.

    It is one for the clothes, if there are any, because it shows the right outfit too; a
    character's cases take turns.
    """
    turn: Counter[int] = Counter()
    chosen = []
    for case in cases:
        pairs = zip(case.references, case.concepts, strict=True)
        choices = [position for position, concept in pairs if concept == CLOTHES]
        choices = choices or list(case.references)
        chosen.append(choices[turn[case.character] % len(choices)])
        turn[case.character] += 1
    return chosen


def _judged_by_itself(case: Case, suite: Suite) -> Case:
    """Returns the case with the free tags of its real image for a prompt."""
    entries: Mapping = suite.vocabulary["tags"]
    own = (tag for tag in suite.tags[case.real] if entries.get(tag, {}).get("kind") == "free")
    return dataclasses.replace(case, prompt=tuple(own))
