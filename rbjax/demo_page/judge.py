"""What the VQA model is asked about an image, what is wanted, and what it answers."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rbjax.demo_page.tags import Vocabulary
from rbjax.evaluation.case_prompts import tag_answers
from rbjax.inference.reference import Reference
from rbjax.text.concepts import CARRIED, CONCEPTS
from rbjax.text.prompts import split_tags
from rbjax.vqa.model import VQA

BY_PROMPT = "prompt"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An answer that an image should give.

    Attributes:
        attribute: that is asked about.
        answer: that is wanted.
        source: "prompt", or "reference 1" where the VQA model reads the answer off that picture.
    """

    attribute: str
    answer: str
    source: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """A question to an image.

    Attributes:
        question: as it was asked.
        wanted: what it should show, and who says so.
        given: the VQA model's answer.
    """

    question: str
    wanted: Wanted
    given: str

    @property
    def is_right(self) -> bool:
        """Whether the image shows what is wanted."""
        return self.given == self.wanted.answer


@dataclasses.dataclass(frozen=True)
class Judge:
    """A VQA model that is asked what a vocabulary's questions ask.

    Attributes:
        vqa: the model.
        vocabulary: tags and questions.
        size: pixels of the images that it is asked about.
    """

    vqa: VQA
    vocabulary: Vocabulary
    size: int

    def asked(self) -> set[str]:
        """Returns the attributes that it is asked about: those that it reads reliably."""
        named = self.vqa.asked_at(self.size)
        questions = set(self.vocabulary["questions"])
        return questions if named is None else questions & named

    def wanted(self, prompt: str, references: Sequence[Reference]) -> list[Wanted]:
        """Returns what the prompt asks for, and what the references show of what they carry.

        The first reference that shows an attribute decides it. What a picture may lack (glasses,
        say) is wanted only where the VQA model also says yes to "is there ...?".
        """
        asked, found = self.asked(), {}
        for number, reference in enumerate(references, 1):
            for attribute, answer in self._shown(reference).items():
                wanted = Wanted(attribute, answer, f"reference {number}")
                found.setdefault(attribute, wanted)
        free = tag_answers(split_tags(prompt.lower()), self.vocabulary, ("free",))
        prompted = [Wanted(*pair, BY_PROMPT) for pair in free.items() if pair[0] in asked]
        return [*found.values(), *prompted]

    def answer(self, image: np.ndarray, wanted: Sequence[Wanted]) -> list[Answer]:
        """Asks about an image, uint8 [H, W, 3]."""
        questions = [self.vocabulary["questions"][one.attribute] for one in wanted]
        if not questions:
            return []
        replies = self._ask(image, questions)
        return [Answer(*parts) for parts in zip(questions, wanted, replies, strict=True)]

    def _shown(self, reference: Reference) -> dict[str, str]:
        """Returns attribute to answer, of what the picture shows of its concept."""
        carried = CARRIED[CONCEPTS.index(reference.concept)]
        tags = self.vocabulary["tags"]
        names = {e["attribute"] for e in tags.values() if e["kind"] in carried} & self.asked()
        names = sorted(names & (self.vqa.phrases_at(self.size) or names))
        if not names:
            return {}
        questions = [self.vocabulary["questions"][name] for name in names]
        answers = dict(zip(names, self._ask(reference.image, questions), strict=True))
        phrases = {
            entry["attribute"]: tag
            for tag, entry in tags.items()
            if answers.get(entry["attribute"]) == entry["answer"]
        }
        yes = self.vqa.probability_yes([reference.image], [self._padded(list(phrases.values()))])[0]
        sure = {name for name, share in zip(phrases, yes, strict=False) if share > 0.5}
        return {name: answer for name, answer in answers.items() if name in sure}

    def _ask(self, image: np.ndarray, questions: list[str]) -> list[str]:
        return self.vqa.answers([image], [self._padded(questions)])[0][: len(questions)]

    def _padded(self, texts: list[str]) -> list[str]:
        """Returns texts, repeated up to one number: another number would compile a program."""
        count = len(self.vocabulary["questions"])
        return (texts * count)[: max(count, len(texts))]
