"""The images that are compared: those of the model, of its controls, and real ones.

The systems are described in `rbjax/evaluation/results.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from rbjax.evaluation import no_learning
from rbjax.evaluation.no_learning import ReadRecord, TrainingImages
from rbjax.evaluation.suite import Case, Suite
from rbjax.models.pixels import to_float
from rbjax.text.concepts import CHARACTER, CLOTHES, carried_kinds
from rbjax.text.prompts import free_tags

COMPARED = (  # the rows of the table
    *("trained", "references_blanked", "other_references", "copy_reference", "paste"),
    *("nearest_training", "real_images"),
)
CONTROLS = ("constant", "mean", "noise")  # of the metrics: they must score badly
GENERATED = ("trained", "references_blanked", "other_references")  # by a model
SYSTEMS = COMPARED + CONTROLS
CONTROL_CHARACTERS = 24  # are enough to see that a control scores badly

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
        faults: number of an image to why there is none to score (its pixels are not read).
    """

    images: np.ndarray
    cases: tuple[Case, ...]
    faults: Mapping[int, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class RealData:
    """What systems without a model are made from.

    Attributes:
        read_images: reads real images of the split that the suite is about.
        read_record: reads a record of it (for `paste`).
        training: what the model was trained on (for `nearest_training`).
    """

    read_images: ReadImages
    read_record: ReadRecord | None = None
    training: TrainingImages | None = None


def collect(
    generate: Generate, suite: Suite, data: RealData, systems: Sequence[str] = SYSTEMS
) -> dict[str, SystemImages]:
    """Makes the images of the systems; a system that would have none is not in the result.

    Only a model's images depend on the sampling seed: other systems have no repeats.

    Args:
        generate: the model.
        suite: the cases.
        data: real images.
        systems: some of SYSTEMS.

    Raises:
        ValueError: an unknown system, `other_references` with one character, or `data` lacks what
            a system needs.
    """
    if unknown := set(systems) - set(SYSTEMS):
        raise ValueError(f"unknown systems {sorted(unknown)}; systems are {', '.join(SYSTEMS)}.")
    made = {name: _make(name, generate, suite, data) for name in SYSTEMS if name in systems}
    return {name: images for name, images in made.items() if images.cases}


def _make(name: str, generate: Generate, suite: Suite, data: RealData) -> SystemImages:
    """Makes the images of one system."""
    cases = suite.cases
    if name == "trained":
        return SystemImages(generate(cases), cases)
    if name == "references_blanked":
        return SystemImages(generate(cases, blank=True), cases)
    if name == "other_references":
        return SystemImages(generate(cases, references_of=other_characters(cases)), cases)
    cases = tuple(case for case in cases if not case.repeat)
    if name in CONTROLS:
        some = list(dict.fromkeys(case.character for case in cases))[:CONTROL_CHARACTERS]
        cases = tuple(case for case in cases if case.character in some)
    if name == "real_images":
        return _real_images(cases, suite, data.read_images)
    return SystemImages(_without_model(name, cases, suite, data), cases)


def _without_model(name: str, cases: Sequence[Case], suite: Suite, data: RealData) -> np.ndarray:
    """Returns the images of a system that needs no model."""
    if name == "copy_reference":
        return data.read_images(copied_references(cases))
    if name == "nearest_training" and data.training is not None:
        training = data.training
        return training.read(
            no_learning.nearest_training(cases, suite.tags, suite.vocabulary, training.tags)
        )
    references = data.read_images([case.references[0] for case in cases])
    size = references.shape[1]
    if name == "paste" and data.read_record is not None:
        pasted = [no_learning.paste(case, data.read_record, size) for case in cases]
        return to_float(np.stack(pasted))
    if name == "constant":
        return np.stack([no_learning.constant(case, size) for case in cases])
    if name == "noise":
        return np.stack([no_learning.noise(case, size) for case in cases])
    if name == "mean":
        return np.broadcast_to(references.mean(axis=0), references.shape).copy()
    raise ValueError(f"{name} needs records or training images; baselines.RealData has none.")


def _real_images(cases: Sequence[Case], suite: Suite, read_images: ReadImages) -> SystemImages:
    """Returns the real images of the cases that have one, scored by their own prompts."""
    real = [(case, case.real) for case in cases if case.real is not None]
    own = tuple(_with_own_prompt(case, position, suite) for case, position in real)
    images = read_images([position for _, position in real]) if real else np.zeros((0, 1, 1, 3))
    return SystemImages(images, own)


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

    It is the first for the clothes, if there are any, because it shows the right outfit too.
    """
    copied = []
    for case in cases:
        pairs = zip(case.references, case.concepts, strict=True)
        choices = [position for position, concept in pairs if concept == CLOTHES]
        copied.append((choices or case.references)[0])
    return copied


def _with_own_prompt(case: Case, position: int, suite: Suite) -> Case:
    """Returns the case with the free tags of its real image, at `position`, as its prompt."""
    if case.is_open:
        return case
    own = free_tags(suite.tags[position], suite.vocabulary, carried_kinds([CHARACTER]))
    return dataclasses.replace(case, prompt=tuple(own))
