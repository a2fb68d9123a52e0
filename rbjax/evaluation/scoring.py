"""Scores of images by a VQA model: numbers for each image or character, and their intervals.

The columns are described in `rbjax/evaluation/results.py`. Axes: N images, C characters.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.results import COLUMNS, SCHEMA
from rbjax.evaluation.suite import Case, Suite, tag_answers
from rbjax.metrics import bootstrap, vqa_score
from rbjax.metrics.leakage import leakage
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE

KINDS = ("free", "outfit", "identity")
# As concepts.CARRIED, but for one: an entire image carries an outfit too, yet the entire references
# of a case are of any outfit (suite.py), so that together they tell none to agree with.
CONCEPTS_OF_KIND = {"outfit": (CLOTHES,), "identity": (FACE, CHARACTER)}

Answers = dict[str, str]  # attribute -> answer


class VQAModel(Protocol):
    """What answers questions about images, such as `rbjax.vqa.model.VQA`."""

    def asked_at(self, size: int) -> set[str] | None:
        """Returns the attributes that it names reliably in images of `size` pixels; None is any."""

    def phrases_at(self, size: int) -> set[str] | None:
        """Returns the attributes about whose tags its yes or no is reliable there; None is any."""

    def answers(
        self, images: np.ndarray, questions: Sequence[Sequence[str]]
    ) -> Sequence[Sequence[str]]:
        """Returns the answer to each question about each of the N images."""

    def probability_yes(
        self, images: np.ndarray, phrases: Sequence[Sequence[str]]
    ) -> Sequence[ArrayLike]:
        """Returns P(yes) / (P(yes) + P(no)) of each phrase about each of the N images."""

    def embed(self, answers: Sequence[str], /) -> np.ndarray:
        """Returns a vector for each answer [len(answers), D]."""


@dataclasses.dataclass(frozen=True)
class SystemScores:
    """Scores of one system.

    Attributes:
        columns: each of COLUMNS to one value a character [at most C]; characters for which a
            column is undefined are not in it.
        attributes: attribute to {"kind": its kind, "share": share of images that show the
            expected answer}.

    Raises:
        ValueError: a column is missing or unknown.
    """

    columns: Mapping[str, Sequence[float]]
    attributes: Mapping[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        if wrong := self.columns.keys() ^ set(COLUMNS):
            raise ValueError(f"{sorted(wrong)}: scored are the COLUMNS of evaluation/results.py")


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A VQA model and what it is asked about a suite.

    Attributes:
        suite: the cases.
        vqa: the model.
        asked: the attributes that it is asked about with "what ...?".
        phrases: the attributes about whose tags it is asked "is there ...?".
        reference_answers: position of a reference to the answers about it.
    """

    suite: Suite
    vqa: VQAModel
    asked: frozenset[str]
    phrases: frozenset[str]
    reference_answers: Mapping[int, Answers]

    @classmethod
    def create(cls, suite: Suite, vqa: VQAModel, *, read_images: ReadImages, size: int) -> "Scorer":
        """Asks about every entire reference image what its tags can answer.

        Args:
            suite: the cases.
            vqa: the model.
            read_images: reads the references.
            size: pixels of the images that are scored.
        """
        named, phrases = vqa.asked_at(size), vqa.phrases_at(size)
        questions = frozenset(suite.vocabulary["questions"])
        asked = questions if named is None else questions.intersection(named)
        scorer = cls(suite, vqa, asked, questions if phrases is None else frozenset(phrases), {})
        positions = sorted({p for case in suite.cases for p in case.references})
        names = [list(scorer.tag_answers(suite.tags[position], KINDS)) for position in positions]
        answers = scorer.ask(read_images(positions), names)
        return dataclasses.replace(
            scorer, reference_answers=dict(zip(positions, answers, strict=True))
        )

    def tag_answers(self, tags: Sequence[str], kinds: Sequence[str]) -> Answers:
        """Returns the answers that tags give, of the attributes that are asked."""
        answers = tag_answers(tags, self.suite.vocabulary, kinds)
        return {name: answer for name, answer in answers.items() if name in self.asked}

    def is_asked(self, tag: str) -> bool:
        """Whether "is there TAG?" is asked: it is a free tag, and the model is reliable for it."""
        answers = tag_answers([tag], self.suite.vocabulary, ("free",))
        return not self.phrases.isdisjoint(answers)

    def ask(self, images: np.ndarray, names: Sequence[Sequence[str]]) -> list[Answers]:
        """Asks about images, float32 [N, H, W, 3] in [-1, 1], the attributes `names` of each."""
        texts = self.suite.vocabulary["questions"]
        replies = self.vqa.answers(images, [[texts[name] for name in image] for image in names])
        return [dict(zip(*pair, strict=True)) for pair in zip(names, replies, strict=True)]

    def probabilities_yes(self, system: SystemImages) -> list[float]:
        """Returns the product of P(yes) over the phrases of each prompt, [N]."""
        phrases = [list(filter(self.is_asked, case.prompt)) for case in system.cases]
        replies = self.vqa.probability_yes(system.images, phrases)
        return [vqa_score.probability_yes(np.asarray(reply)) for reply in replies]

    def expected_answers(self, case: Case) -> dict[str, Answers]:
        """Returns by kind what the prompt asks for (free), or the references show."""
        return {
            "free": self.tag_answers(case.prompt, ("free",)),
            "outfit": self._majority(case, "outfit"),
            "identity": self._majority(case, "identity"),
        }

    def reference_values(self, case: Case) -> dict[str, set[str]]:
        """Returns for each attribute all answers about the case's references."""
        values: dict[str, set[str]] = defaultdict(set)
        for position in case.references:
            for name, answer in self.reference_answers[position].items():
                values[name].add(answer)
        return values

    def _majority(self, case: Case, kind: str) -> Answers:
        """Returns the majority answer of the references whose concept carries the kind."""
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        for position, concept in zip(case.references, case.concepts, strict=True):
            if concept in CONCEPTS_OF_KIND[kind]:
                for name in self.tag_answers(self.suite.tags[position], (kind,)):
                    votes[name][self.reference_answers[position][name]] += 1
        return {name: vote.most_common(1)[0][0] for name, vote in votes.items()}


@dataclasses.dataclass(frozen=True)
class _Image:
    """What an image should show by kind, and what it shows: the model's answers."""

    case: Case
    expected: Mapping[str, Answers]
    given: Answers

    def agreement(self, kind: str) -> float:
        """Returns the share of the kind's attributes with the expected answer, or NaN."""
        expected = self.expected[kind]
        return _mean([self.given[name] == answer for name, answer in expected.items()])

    def flexibility(self, embedding: Mapping[str, np.ndarray]) -> float:
        """Returns `vqa_score.flexibility` of the prompt's attributes."""
        expected = self.expected["free"]
        given = np.array([embedding[self.given[name]] for name in expected])
        return vqa_score.flexibility(given, np.array([embedding[a] for a in expected.values()]))


def score(
    systems: Mapping[str, SystemImages],
    suite: Suite,
    vqa: VQAModel | None,
    *,
    read_images: ReadImages,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Scores systems; `rbjax/evaluation/results.py` describes what it returns.

    Args:
        systems: as `baselines.collect` returns them.
        suite: the cases.
        vqa: the model that is asked; None if the data set has no questions: nothing is scored.
        read_images: reads the references.
        resamples: of the bootstrap.

    Raises:
        ValueError: there is no system.
    """
    if not systems:
        raise ValueError(
            "there are no images to score: give at least one system of baselines.SYSTEMS"
        )
    size = int(next(iter(systems.values())).images.shape[1])
    scorer = None if vqa is None else Scorer.create(suite, vqa, read_images=read_images, size=size)
    scores = {name: score_system(system, scorer) for name, system in systems.items()}
    return {
        "schema": SCHEMA,
        "size": size,
        "characters": len({case.character for case in suite.cases}),
        "cases": len(suite.cases),
        "confidence": bootstrap.CONFIDENCE,
        "asked": sorted(scorer.asked) if scorer else [],
        "phrases": sorted(scorer.phrases) if scorer else [],
        "rows": {
            name: {column: _interval(s.columns[column], resamples) for column in COLUMNS}
            for name, s in scores.items()
        },
        "images": {name: len(system.cases) for name, system in systems.items()},
        "attributes": {name: dict(s.attributes) for name, s in scores.items()},
    }


def score_system(system: SystemImages, scorer: Scorer | None) -> SystemScores:
    """Scores the images of one system; without a scorer no column has a value."""
    if scorer is None:
        return SystemScores(dict.fromkeys(COLUMNS, ()), {})
    expected = [scorer.expected_answers(case) for case in system.cases]
    names = [[name for kind in KINDS for name in image[kind]] for image in expected]
    answers = scorer.ask(system.images, names)
    images = [_Image(*parts) for parts in zip(system.cases, expected, answers, strict=True)]
    embedding = _embed(scorer.vqa, images)
    measured = {
        "vqa_flexibility": [image.flexibility(embedding) for image in images],
        "p_yes": scorer.probabilities_yes(system),
        "outfit_agreement": [image.agreement("outfit") for image in images],
        "identity_agreement": [image.agreement("identity") for image in images],
        "leakage": [
            leakage(image.given, image.expected["free"], scorer.reference_values(image.case))
            for image in images
        ],
    }
    characters = [case.character for case in system.cases]
    columns = {name: _by_character(characters, values) for name, values in measured.items()}
    columns["vqa_diversity"] = _diversities(images, embedding)
    return SystemScores(columns, _shares(images))


def _embed(vqa: VQAModel, images: Sequence[_Image]) -> dict[str, np.ndarray]:
    """Returns a vector for every answer that is given or expected for the prompt."""
    groups = [answers for image in images for answers in (image.given, image.expected["free"])]
    texts = sorted({text for answers in groups for text in answers.values()})
    return dict(zip(texts, vqa.embed(texts), strict=True))


def _diversities(images: Sequence[_Image], embedding: Mapping[str, np.ndarray]) -> list[float]:
    """Returns for each character the mean over attributes of the mean over pairs of images."""
    groups: dict[int, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        for name in image.expected["free"]:
            groups[image.case.character][name].append(embedding[image.given[name]])
    diversities = [  # of the answers [K, 1, D] to one question about K images
        [vqa_score.diversity(np.array(v)[:, None]) for v in names.values() if len(v) > 1]
        for names in groups.values()
    ]
    return [_mean(values) for values in diversities if values]


def _shares(images: Sequence[_Image]) -> dict[str, dict[str, Any]]:
    """Returns for every attribute the share of images with the expected answer."""
    correct: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for image in images:
        for kind in KINDS:
            for name, text in image.expected[kind].items():
                correct[name, kind].append(image.given[name] == text)
    return {name: {"kind": kind, "share": _mean(v)} for (name, kind), v in correct.items()}


def _by_character(characters: Sequence[int], values: Sequence[float]) -> list[float]:
    """Returns the mean of each character's values; those without any are not in it."""
    groups: dict[int, list[float]] = defaultdict(list)
    for character, value in zip(characters, values, strict=True):
        if not np.isnan(value):
            groups[character].append(value)
    return [_mean(group) for group in groups.values()]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _interval(values: Sequence[float], resamples: int) -> dict[str, float] | None:
    if not len(values):
        return None
    bounds = bootstrap.interval(np.array(values), seed=0, resamples=resamples)
    return dict(zip(("mean", "low", "high"), bounds, strict=True))
