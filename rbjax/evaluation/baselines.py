"""The images that are compared: those of the model, of its controls, and real ones.

The systems are described in `rbjax/evaluation/results.py`.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from rbjax.evaluation.suite import Case, Suite
from rbjax.text.concepts import CHARACTER, CLOTHES, carried_kinds
from rbjax.text.prompts import free_tags

SYSTEMS = ("trained", "references_blanked", "other_references", "copy_reference", "real_images")

# N positions of records -> their entire images, float32 [N, H, W, 3] in [-1, 1]
ReadImages = Callable[[Sequence[int]], np.ndarray]


class Generate(Protocol):
    """What generates the images of cases."""

    def __call__(
        self,
        cases: Sequence[Case],
        /,
        *,
        blank: bool = False,
        references_of: Sequence[Case] | None = None,
    ) -> np.ndarray:
        """Returns float32 [N, H, W, 3] in [-1, 1].

        Args:
            cases: N cases, which give prompt and seed.
            blank: generate without references.
            references_of: N cases that give the references in place of `cases`.
        """
        ...


@dataclasses.dataclass(frozen=True)
class SystemImages:
    """Images of one system.

    Attributes:
        images: float32 [N, H, W, 3] in [-1, 1].
        cases: the N cases that they are scored against.
    """

    images: np.ndarray
    cases: tuple[Case, ...]


def collect(
    generate: Generate,
    suite: Suite,
    *,
    read_images: ReadImages,
    systems: Sequence[str] = SYSTEMS,
) -> dict[str, SystemImages]:
    """Makes the images of the systems; a system that would have none is not in the result.

    Args:
        generate: the model.
        suite: the cases.
        read_images: reads real images.
        systems: some of SYSTEMS.

    Raises:
        ValueError: an unknown system, or `other_references` with one character.
    """
    if unknown := set(systems) - set(SYSTEMS):
        raise ValueError(f"unknown systems {sorted(unknown)}; systems are {', '.join(SYSTEMS)}.")
    cases = suite.cases
    real = [(case, case.real) for case in cases if case.real is not None]
    make = {
        "trained": lambda: SystemImages(generate(cases), cases),
        "references_blanked": lambda: SystemImages(generate(cases, blank=True), cases),
        "other_references": lambda: SystemImages(
            generate(cases, references_of=other_characters(cases)), cases
        ),
        "copy_reference": lambda: SystemImages(read_images(copied_references(cases)), cases),
        "real_images": lambda: SystemImages(
            read_images([position for _, position in real]),
            tuple(_with_own_prompt(case, position, suite) for case, position in real),
        ),
    }
    chosen = [name for name in SYSTEMS if name in systems and (real or name != "real_images")]
    return {name: make[name]() for name in chosen}


def other_characters(cases: Sequence[Case]) -> list[Case]:
    """Returns for each case one of the next character (cyclically).

    Raises:
        ValueError: there is only one character.
    """
    first = {case.character: case for case in reversed(cases)}
    characters = list(dict.fromkeys(case.character for case in cases))
    if len(characters) < 2:
        raise ValueError("references of another character need two characters in the suite.")
    following = dict(zip(characters, characters[1:] + characters[:1], strict=True))
    return [first[following[case.character]] for case in cases]


def copied_references(cases: Sequence[Case]) -> list[int]:
    """Returns for each case the position of the reference that the leak baseline copies.

    It is one for the clothes, if there are any, because it shows the right outfit too; the cases
    of a character copy different ones, in turn.
    """
    turn: Counter[int] = Counter()
    copied = []
    for case in cases:
        pairs = zip(case.references, case.concepts, strict=True)
        choices = [position for position, concept in pairs if concept == CLOTHES]
        choices = choices or list(case.references)
        copied.append(choices[turn[case.character] % len(choices)])
        turn[case.character] += 1
    return copied


def _with_own_prompt(case: Case, position: int, suite: Suite) -> Case:
    """Returns the case with the free tags of its real image, at `position`, as its prompt."""
    own = free_tags(suite.tags[position], suite.vocabulary, carried_kinds([CHARACTER]))
    return dataclasses.replace(case, prompt=tuple(own))
