"""What the VQA model says of one row of images, as numbers for each image or character.

The columns are described in `rbjax/evaluation/results.py`. Axes: N images, C characters.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from rbjax.evaluation.baselines import Images, Row
from rbjax.evaluation.suite import CHARACTER, CLOTHES, FACE, Case, Suite, told
from rbjax.metrics import vqa_score
from rbjax.metrics.leakage import leakage

KINDS = ("free", "outfit", "identity")
CONCEPTS_OF_KIND = {"outfit": (CLOTHES,), "identity": (FACE, CHARACTER)}

Answers = dict[str, str]  # attribute -> answer


class VQA(Protocol):
    """The judge; `rbjax.metrics.vqa_score.VQA` is one."""

    def asked_at(self, size: int) -> set[str]:
        """Returns the attributes that it is good at naming, in images of that size."""

    def phrases_at(self, size: int) -> set[str]:
        """Returns the attributes for which its yes or no to a tag is good, at that size."""

    def answers(self, images: np.ndarray, questions: list[list[str]]) -> list[list[str]]:
        """Returns the answer to each question about each of the N images."""

    def probability_yes(self, images: np.ndarray, phrases: list[list[str]]) -> list[list[float]]:
        """Returns P(yes) / (P(yes) + P(no)) of each phrase about each of the N images."""

    def embed(self, texts: list[str]) -> np.ndarray:
        """Returns a vector for each text."""


class Silent:
    """A judge for data without questions: it is asked nothing, and nothing is scored."""

    def asked_at(self, size: int) -> set[str]:
        """None."""
        return set()

    phrases_at = asked_at

    def answers(self, images: np.ndarray, questions: list[list[str]]) -> list[list[str]]:
        """No answer to no question."""
        return [[] for _ in questions]

    def probability_yes(self, images: np.ndarray, phrases: list[list[str]]) -> list[list[float]]:
        """As `answers`."""
        return self.answers(images, phrases)

    def embed(self, texts: list[str]) -> np.ndarray:
        """No vector for no answer."""
        return np.zeros((0, 1))


@dataclasses.dataclass(frozen=True)
class Interview:
    """Who is asked what about which suite.

    Attributes:
        suite: the cases.
        vqa: the judge.
        asked: the attributes that it is asked about with "what ...?".
        phrases: the attributes about whose tags it is asked "is there ...?".
        shown: position to the answers about that reference.
    """

    suite: Suite
    vqa: VQA
    asked: frozenset[str]
    phrases: frozenset[str]
    shown: Mapping[int, Answers]

    @classmethod
    def start(cls, suite: Suite, images: Images, vqa: VQA, size: int) -> "Interview":
        """Asks about every whole reference image what its tags can answer."""
        asked = frozenset(vqa.asked_at(size)) & suite.vocabulary["questions"].keys()
        empty = cls(suite, vqa, asked, frozenset(vqa.phrases_at(size)), {})
        positions = sorted({p for case in suite.cases for p in case.references})
        names = [list(empty.told(suite.tags[position], KINDS)) for position in positions]
        answers = empty.ask(images(positions), names)
        return dataclasses.replace(empty, shown=dict(zip(positions, answers, strict=True)))

    def told(self, tags: Sequence[str], kinds: Sequence[str]) -> Answers:
        """Returns what tags say, of the attributes that are asked."""
        answers = told(tags, self.suite.vocabulary, kinds)
        return {name: answer for name, answer in answers.items() if name in self.asked}

    def can_tell(self, tag: str) -> bool:
        """Whether "is there TAG?" may be asked: it is a free tag, and the judge is good at it."""
        return not self.phrases.isdisjoint(told([tag], self.suite.vocabulary, ("free",)))

    def ask(self, images: np.ndarray, names: Sequence[Sequence[str]]) -> list[Answers]:
        """Returns the answers about each image, to the questions of its attributes."""
        texts = self.suite.vocabulary["questions"]
        replies = self.vqa.answers(images, [[texts[name] for name in image] for image in names])
        return [dict(zip(*pair, strict=True)) for pair in zip(names, replies, strict=True)]

    def expected(self, case: Case, kind: str) -> Answers:
        """Returns the majority answer of the references that are given for that kind."""
        votes: dict[str, Counter] = defaultdict(Counter)
        for position, concept in zip(case.references, case.concepts, strict=True):
            if concept in CONCEPTS_OF_KIND[kind]:
                for name in self.told(self.suite.tags[position], (kind,)):
                    votes[name][self.shown[position][name]] += 1
        return {name: vote.most_common(1)[0][0] for name, vote in votes.items()}

    def values(self, case: Case) -> dict[str, set[str]]:
        """Returns all that the case's references show."""
        values: dict[str, set[str]] = defaultdict(set)
        for position in case.references:
            for name, answer in self.shown[position].items():
                values[name].add(answer)
        return values


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Of one row: {column: values [at most C]}, and {attribute: {"kind", "share"}}."""

    columns: Mapping[str, Sequence[float]]
    attributes: Mapping[str, Mapping[str, Any]]


def judge(row: Row, interview: Interview) -> Judgement:
    """Measures a row; characters for which a column has nothing to judge are left out of it."""
    wanted = [  # for each image: kind -> attribute -> right answer
        {
            "free": interview.told(case.prompt, ("free",)),
            "outfit": interview.expected(case, "outfit"),
            "identity": interview.expected(case, "identity"),
        }
        for case in row.cases
    ]
    names = [[name for kind in KINDS for name in image[kind]] for image in wanted]
    answers = interview.ask(row.images, names)
    embed = _embeddings(interview.vqa, answers, [image["free"] for image in wanted])
    pairs = list(zip(answers, wanted, strict=True))
    measured = {
        "vqa_flexibility": [_flexibility(answer, image["free"], embed) for answer, image in pairs],
        "p_yes": _probabilities(row, interview),
        "outfit_agreement": [_agreement(answer, image["outfit"]) for answer, image in pairs],
        "identity_agreement": [_agreement(answer, image["identity"]) for answer, image in pairs],
        "leakage": [
            leakage(answer, image["free"], interview.values(case))
            for (answer, image), case in zip(pairs, row.cases, strict=True)
        ],
    }
    owners = [case.character for case in row.cases]
    columns = {name: _by_character(owners, values) for name, values in measured.items()}
    columns["vqa_diversity"] = _diversities(owners, pairs, embed)
    return Judgement(columns, _shares(pairs))


def _embeddings(vqa: VQA, *groups: Sequence[Answers]) -> dict[str, np.ndarray]:
    """Returns a vector for every answer that occurs."""
    texts = sorted({text for group in groups for image in group for text in image.values()})
    return dict(zip(texts, vqa.embed(texts), strict=True))


def _flexibility(answers: Answers, wanted: Answers, embed: Mapping[str, np.ndarray]) -> float:
    given = np.array([embed[answers[name]] for name in wanted])
    return vqa_score.flexibility(given, np.array([embed[text] for text in wanted.values()]))


def _agreement(answers: Answers, wanted: Answers) -> float:
    return _mean([answers[name] == text for name, text in wanted.items()])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _probabilities(row: Row, interview: Interview) -> list[float]:
    """Returns the product of P(yes) over the phrases of each prompt, [N]."""
    phrases = [list(filter(interview.can_tell, case.prompt)) for case in row.cases]
    replies = interview.vqa.probability_yes(row.images, phrases)
    return [float(np.prod(reply)) if len(reply) else np.nan for reply in replies]


def _diversities(owners: Sequence[int], pairs, embed: Mapping[str, np.ndarray]) -> list[float]:
    """Returns for each character the mean over attributes of the mean over pairs of images."""
    groups: dict[int, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for owner, (answers, wanted) in zip(owners, pairs, strict=True):
        for name in wanted["free"]:
            groups[owner][name].append(embed[answers[name]])
    spread = {  # of the answers [K, 1, D] to one question about K images
        owner: [vqa_score.diversity(np.array(v)[:, None]) for v in names.values() if len(v) > 1]
        for owner, names in groups.items()
    }
    return [_mean(values) for values in spread.values() if values]


def _by_character(owners: Sequence[int], values: Sequence[float]) -> list[float]:
    """Returns the mean of each character's values; those without any are left out."""
    groups = defaultdict(list)
    for owner, value in zip(owners, values, strict=True):
        if not np.isnan(value):
            groups[owner].append(value)
    return [_mean(group) for group in groups.values()]


def _shares(pairs) -> dict[str, dict[str, Any]]:
    """Returns, for every attribute, the share of images with the right answer."""
    right = defaultdict(list)
    for answers, wanted in pairs:
        for kind in KINDS:
            for name, text in wanted[kind].items():
                right[name, kind].append(answers[name] == text)
    return {name: {"kind": kind, "share": _mean(values)} for (name, kind), values in right.items()}
