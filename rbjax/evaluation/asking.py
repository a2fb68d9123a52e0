"""Asks a VQA model what images show, and says what they should show.

What cannot be asked is named and counted, never guessed: see `AskedImage.fault` and `unasked`.
"""

import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.case_prompts import FIRST_TAG, Prompt, tag_answers, yes_only
from rbjax.evaluation.suite import Case, Suite
from rbjax.metrics.vqa_score import normalised
from rbjax.text.concepts import CARRIED, CHARACTER, CLOTHES, FACE
from rbjax.vqa.questions import yes_or_no

KINDS = ("free", "outfit", "identity")
# As concepts.CARRIED, but for one: an entire image carries an outfit too, yet the entire references
# of a case are of any outfit (suite.py), so that together they tell none to agree with.
CONCEPTS_OF_KIND = {"outfit": (CLOTHES,), "identity": (FACE, CHARACTER)}
NOT_FINITE = "image is not finite"
NO_WORD = "answer is no word"

Answers = dict[str, str]  # attribute -> answer; "" is no word


class VQAModel(Protocol):
    """What answers questions about images, such as `rbjax.vqa.model.VQA`."""

    def asked_at(self, size: int) -> set[str] | None:
        """Returns the attributes that it names reliably in images of `size` pixels; None is any."""

    def phrases_at(self, size: int) -> set[str] | None:
        """Returns the attributes about whose tags its yes or no is reliable there; None is any."""

    def can_read(self, question: str) -> bool:
        """Returns whether a question is short enough for it."""

    def knows(self, phrase: str) -> bool:
        """Returns whether it has a token for every word; what it has not, all sounds alike."""

    def answers(
        self, images: np.ndarray, questions: Sequence[Sequence[str]]
    ) -> Sequence[Sequence[str]]:
        """Returns the answer to each question about each of the N images."""

    def ask(
        self,
        images: np.ndarray,
        questions: Sequence[Sequence[str]],
        phrases: Sequence[Sequence[str]],
    ) -> tuple[Sequence[Sequence[str]], Sequence[ArrayLike]]:
        """Returns the answers to each image's questions, and P(yes) of each of its phrases.

        P(yes) is P(yes) / (P(yes) + P(no)).
        """


@dataclasses.dataclass(frozen=True)
class AskedImage:
    """What an image should show, and what the VQA model says that it shows.

    Attributes:
        case: that the image is scored against.
        expected: kind to attribute to the wanted answer: the prompt's (free), the references'.
        given: attribute to the answer, of all that is expected, in an open case of all free
            attributes; nothing where the image has a fault.
        unwanted: attribute to the answers about references, beyond the concept that each is for.
        phrases: phrase of the prompt to P(yes); nothing where the image has a fault.
        unasked: phrases of the prompt that hold no word (`^_^`), that are too long for the model
            or have a word that it does not know; nothing where the image has a fault.
        fault: why the image cannot be asked about; "" if it can.
    """

    case: Case
    expected: Mapping[str, Answers]
    given: Answers
    unwanted: Mapping[str, Sequence[str]]
    phrases: Mapping[str, float]
    unasked: Sequence[str] = ()
    fault: str = ""

    @property
    def wanted(self) -> Answers:
        """The wanted answers of all kinds."""
        return {name: text for kind in KINDS for name, text in self.expected[kind].items()}


@dataclasses.dataclass(frozen=True)
class Asker:
    """A VQA model and what it is asked about a suite.

    Attributes:
        suite: the cases.
        vqa: the model.
        asked: the attributes that it is asked about with "what ...?".
        real_answers: position of a real image (references and `Suite.variety`) to the answers
            about it, of the attributes that its tags name; of those of `Suite.variety` also of
            `varied_names`.
    """

    suite: Suite
    vqa: VQAModel
    asked: frozenset[str]
    real_answers: Mapping[int, Answers]

    @classmethod
    def create(
        cls,
        suite: Suite,
        vqa: VQAModel,
        *,
        read_images: ReadImages,
        size: int,
        cases: Iterable[Case] = (),
    ) -> "Asker":
        """Asks about every entire reference image what its tags can answer.

        Args:
            suite: the cases.
            vqa: the model.
            cases: others whose references are asked about too.
            read_images: reads real images.
            size: pixels of the images that are scored.

        Raises:
            ValueError: no answer is a word.
        """
        named = vqa.asked_at(size)
        questions = frozenset(suite.vocabulary["questions"])
        asker = cls(suite, vqa, questions if named is None else questions.intersection(named), {})
        positions = {p for case in (*suite.cases, *cases) for p in case.references}
        positions.update(p for images in suite.variety.values() for p in images)
        names = {p: list(asker.tag_answers(suite.tags[p], KINDS)) for p in sorted(positions)}
        for character, images in suite.variety.items():
            varied = asker.varied_names(character)
            for position in images:
                names[position] = list(dict.fromkeys([*names[position], *varied]))
        answers = asker.ask(read_images(list(names)), list(names.values()))
        texts = [text for of_image in answers for text in of_image.values()]
        if texts and not any(texts):
            raise ValueError(
                f"the VQA model answers none of {len(texts)} questions about real images with a "
                "word: its weights or its tokenizer are damaged"
            )
        return dataclasses.replace(asker, real_answers=dict(zip(names, answers, strict=True)))

    def tag_answers(self, tags: Sequence[str], kinds: Sequence[str]) -> Answers:
        """Returns the answers that tags give, of the attributes that are asked."""
        answers = tag_answers(tags, self.suite.vocabulary, kinds)
        return {name: normalised(text) for name, text in answers.items() if name in self.asked}

    def ask(self, images: np.ndarray, names: Sequence[Sequence[str]]) -> list[Answers]:
        """Asks about images, float32 [N, H, W, 3] in [-1, 1], the attributes `names` of each."""
        texts = self.suite.vocabulary["questions"]
        replies = self.vqa.answers(images, [[texts[name] for name in image] for image in names])
        return _named(names, replies)

    def ask_system(self, system: SystemImages) -> list[AskedImage]:
        """Asks about the images of a system that which their cases say."""
        faults = image_faults(system)
        sound = np.array([not fault for fault in faults], bool)
        images = np.where(sound[:, None, None, None], system.images, 0)  # asked nothing
        expected = [self.expected_answers(case) for case in system.cases]
        names = [
            self._names(case, wanted) if not fault else []
            for case, wanted, fault in zip(system.cases, expected, faults, strict=True)
        ]
        pairs = zip(system.cases, faults, strict=True)
        phrases, unasked = self._phrases([() if fault else case.prompt for case, fault in pairs])
        texts = self.suite.vocabulary["questions"]
        answers, replies = self.vqa.ask(
            images,
            [[texts[name] for name in row] for row in names],
            [[normalised(tag) for tag in row] for row in phrases],
        )
        given = _named(names, answers)
        return [
            AskedImage(
                case=case,
                expected=expected[i],
                given=given[i],
                unwanted=self.unwanted_answers(case),
                phrases=dict(zip(phrases[i], map(float, np.asarray(replies[i])), strict=True)),
                unasked=unasked[i],
                fault=faults[i],
            )
            for i, case in enumerate(system.cases)
        ]

    def _phrases(self, prompts: Sequence[Prompt]) -> tuple[list[list[str]], list[list[str]]]:
        """Returns of each prompt the phrases that can be asked, and those that cannot."""
        rows = [dict.fromkeys(tag for tag in prompt if tag != FIRST_TAG) for prompt in prompts]
        words = {tag: normalised(tag) for row in rows for tag in row}
        can = {
            tag
            for tag, text in words.items()
            if text and self.vqa.can_read(yes_or_no(text)) and self.vqa.knows(text)
        }
        asked = [[tag for tag in row if tag in can] for row in rows]
        return asked, [[tag for tag in row if tag not in can] for row in rows]

    def expected_answers(self, case: Case) -> dict[str, Answers]:
        """Returns by kind what the prompt asks for (free), or the references show."""
        return {
            "free": self.tag_answers(case.prompt, ("free",)),
            "outfit": self._majority(case, "outfit"),
            "identity": self._majority(case, "identity"),
        }

    def unwanted_answers(self, case: Case) -> dict[str, list[str]]:
        """Returns for each attribute the answers about references that are not given for it.

        A reference whose tags say what the prompt says, or a reference that is given for the
        attribute, is left out: it shows what is wanted, whatever the model answers.
        """
        wanted: dict[str, set[str]] = defaultdict(set)
        for name, tag in self.tag_answers(case.prompt, ("free",)).items():
            wanted[name].add(tag)
        shown: list[tuple[int, str, str]] = []
        for position, concept in zip(case.references, case.concepts, strict=True):
            for kind in KINDS:
                for name, tag in self.tag_answers(self.suite.tags[position], (kind,)).items():
                    if kind in CARRIED[concept]:
                        wanted[name].add(tag)
                    else:
                        shown.append((position, name, tag))
        values: dict[str, set[str]] = defaultdict(set)
        for position, name, tag in shown:
            answer = self.real_answers[position][name]
            if answer and tag not in wanted[name]:
                values[name].add(answer)
        return {name: sorted(answers) for name, answers in values.items()}

    def no_words(self) -> int:
        """Returns the number of answers about real images that are no word."""
        return sum(not text for answers in self.real_answers.values() for text in answers.values())

    def _names(self, case: Case, expected: Mapping[str, Answers]) -> list[str]:
        """Returns the attributes that an image of the case is asked about."""
        names = [name for kind in KINDS for name in expected[kind]]
        if case.is_open:
            names += self.varied_names(case.character)
        return list(dict.fromkeys(names))

    def varied_names(self, character: int) -> list[str]:
        """Returns the free attributes of which every real image of `Suite.variety` has a value.

        What tags alone say yes to, an image without such a tag lacks; one at least has it.
        """
        tags = [self.suite.tags[position] for position in self.suite.variety.get(character, ())]
        names = [set(self.tag_answers(image, ("free",))) for image in tags]
        if not names:
            return []
        return sorted(set.intersection(*names) | (set.union(*names) & self._yes_only))

    @functools.cached_property
    def _yes_only(self) -> frozenset[str]:
        return yes_only(self.suite.vocabulary)

    def _majority(self, case: Case, kind: str) -> Answers:
        """Returns the majority answer of the references whose concept carries the kind."""
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        for position, concept in zip(case.references, case.concepts, strict=True):
            if concept in CONCEPTS_OF_KIND[kind]:
                for name in self.tag_answers(self.suite.tags[position], (kind,)):
                    if answer := self.real_answers[position][name]:
                        votes[name][answer] += 1
        return {name: vote.most_common(1)[0][0] for name, vote in votes.items()}


def _named(names: Sequence[Sequence[str]], replies: Sequence[Sequence[str]]) -> list[Answers]:
    """Returns by attribute the answers about images."""
    return [
        {name: normalised(reply) for name, reply in zip(*pair, strict=True)}
        for pair in zip(names, replies, strict=True)
    ]


def image_faults(system: SystemImages) -> list[str]:
    """Returns why each image of a system cannot be asked about; "" if it can."""
    is_finite = [np.isfinite(image).all() for image in system.images]
    return [
        system.faults.get(number, "" if finite else NOT_FINITE)
        for number, finite in enumerate(is_finite)
    ]
