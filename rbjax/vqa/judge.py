"""A VQA model and what it may be asked about a data set: measured on real images of that data set.

Nobody knows how a model that was trained on photographs answers about drawings. So it is asked
about images whose tags say the answer. An attribute may be asked where the answers agree with the
tags; agreement is the mean over answers of the share of images with that answer, so that always
saying the same gives no more than one over the number of answers. For a question that wants "yes",
images without such a tag want "no".

What was measured is kept beside the data set, `judge-KEY.json`; the key is of the model's files,
the questions and the build of the data set.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from tensorflow_datasets.core.utils import incomplete_file

from rbjax.vqa.model import VQA, Images
from rbjax.vqa.tag_questions import YES

REQUIRED = 0.8  # agreement from which on an attribute is asked
PER_ANSWER = 12  # images of each answer, at most
AT_LEAST = 4  # images of an answer that counts; an attribute needs two such answers
NO = "no"
OWN_FILES = (".json", ".txt", ".safetensors")  # that decide what a model answers

# positions of records -> their entire images, float32 [N, H, W, 3] in [-1, 1]
ReadImages = Callable[[Sequence[int]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One question about a real image, and the answer that its tags give."""

    position: int
    attribute: str
    answer: str


@dataclasses.dataclass(frozen=True)
class Judge:
    """What `evaluation` asks: answers are taken as the questions' rules say.

    Attributes:
        vqa: the model.
        vocabulary: of `tag_questions.complete`.
        measured: attribute to {"agreement": 0 to 1, "answers": {answer: [right, asked]}}.
    """

    vqa: VQA
    vocabulary: Mapping[str, Any]
    measured: Mapping[str, Mapping[str, Any]]

    @property
    def asked(self) -> set[str]:
        """The attributes that may be asked."""
        return {name for name, found in self.measured.items() if found["agreement"] >= REQUIRED}

    def asked_at(self, size: int) -> set[str]:
        """Returns `asked`; it was measured at the size of the images that are scored."""
        del size
        return self.asked

    phrases_at = asked_at

    def can_read(self, question: str) -> bool:
        """Returns whether a question is short enough for the model."""
        return self.vqa.can_read(question)

    def knows(self, phrase: str) -> bool:
        """Returns whether the model has a token for every word of a phrase."""
        return self.vqa.knows(phrase)

    def ask(
        self,
        images: Images,
        questions: Sequence[Sequence[str]],
        phrases: Sequence[Sequence[str]],
    ) -> tuple[list[list[str]], list[np.ndarray]]:
        """Returns the answers to questions, and P(yes) of phrases; see `VQA.ask`."""
        answers, probabilities = self.vqa.ask(images, questions, phrases)
        return taken(answers, questions, self.vocabulary), probabilities

    def answers(self, images: Images, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """Returns the answers to each image's questions; see `VQA.answers`."""
        return taken(self.vqa.answers(images, questions), questions, self.vocabulary)

    def probability_yes(self, images: Images, phrases: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Returns P(yes) of each image's phrases; see `VQA.probability_yes`."""
        return self.vqa.probability_yes(images, phrases)


def taken(
    answers: Sequence[Sequence[str]],
    questions: Sequence[Sequence[str]],
    vocabulary: Mapping[str, Any],
) -> list[list[str]]:
    """Returns answers without article, as the one of several equal ones that the rules name."""
    same = vocabulary.get("same", {})
    return [
        [_meaning(answer, same.get(question, {})) for answer, question in zip(*pair, strict=True)]
        for pair in zip(answers, questions, strict=True)
    ]


def _meaning(answer: str, same: Mapping[str, str]) -> str:
    words = answer.lower().split()
    text = " ".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words)
    return same.get(text, text)


def measure(
    vqa: VQA,
    vocabulary: Mapping[str, Any],
    tags: Sequence[Sequence[str]],
    read_images: ReadImages,
    *,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Asks about real images what their tags answer.

    Args:
        vqa: the model.
        vocabulary: of `tag_questions.complete`.
        tags: of the records.
        read_images: of the records, at the size of the images that will be scored.
        seed: of the choice of images.

    Returns:
        See `Judge.measured`; attributes of which too few images are there are not in it.
    """
    samples = choose(vocabulary, tags, seed=seed)
    positions = sorted({sample.position for sample in samples})
    asked = [[s for s in samples if s.position == position] for position in positions]
    questions = [[vocabulary["questions"][s.attribute] for s in row] for row in asked]
    replies = []
    for start in range(0, len(positions), 256):  # so that few images are in memory at once
        part = slice(start, start + 256)
        replies += vqa.answers(read_images(positions[part]), questions[part])
    counts: dict[str, dict[str, list[int]]] = {}
    for row, given in zip(asked, taken(replies, questions, vocabulary), strict=True):
        for sample, answer in zip(row, given, strict=True):
            count = counts.setdefault(sample.attribute, {}).setdefault(sample.answer, [0, 0])
            count[0] += answer == sample.answer
            count[1] += 1
    return {
        name: {
            "agreement": float(np.mean([right / asked for right, asked in answers.values()])),
            "answers": dict(sorted(answers.items())),
        }
        for name, answers in sorted(counts.items())
    }


def choose(
    vocabulary: Mapping[str, Any], tags: Sequence[Sequence[str]], *, seed: int = 0
) -> list[Sample]:
    """Chooses the images of every answer to every question; see `measure`."""
    entries, questions = vocabulary["tags"], vocabulary["questions"]
    shown: dict[str, dict[str, set[int]]] = {name: {} for name in questions}
    for position, record in enumerate(tags):
        for entry in (entries[tag] for tag in record if tag in entries):
            if entry["attribute"] in shown:
                shown[entry["attribute"]].setdefault(entry["answer"], set()).add(position)
    samples = []
    for number, (name, answers) in enumerate(sorted(shown.items())):
        if YES in answers:
            answers[NO] = set(range(len(tags))).difference(*answers.values())
        enough = {a: sorted(found) for a, found in answers.items() if len(found) >= AT_LEAST}
        if len(enough) < 2:
            continue
        rng = np.random.default_rng([seed, number])
        for answer, positions in sorted(enough.items()):
            drawn = rng.permutation(positions)[:PER_ANSWER].tolist()
            samples += [Sample(position, name, answer) for position in drawn]
    return samples


def fingerprint(folder: Path, *parts: object) -> str:
    """Returns a key of a model's files and of what else decides what is measured.

    Raises:
        ValueError: the folder has no such file, so that models would share a key.
    """
    digest = hashlib.sha256(repr((REQUIRED, PER_ANSWER, AT_LEAST, parts)).encode())
    files = sorted(path for path in folder.iterdir() if path.suffix in OWN_FILES)
    if not files:
        raise ValueError(
            f"{folder} has no file of a model ({', '.join(OWN_FILES)}): name the folder that "
            "holds config.json and the weights"
        )
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def kept(
    directory: Path, key: str, make: Callable[[], dict[str, dict[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Returns what was measured before, or what `make` measures, which is kept.

    Args:
        directory: of the data set.
        key: of `fingerprint`.
        make: measures.
    """
    path = directory / f"judge-{key}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all("agreement" in value for value in found.values()):
            return found
    except (OSError, ValueError, TypeError):
        pass  # not there or cut off: measured again
    measured = make()
    try:
        with incomplete_file(epath.Path(path)) as partial:
            partial.write_text(json.dumps(measured, indent=1))
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror}): it is measured at every start.")
    return measured


def table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a Markdown table of agreements, the best first."""
    order = sorted(measured, key=lambda name: (-measured[name]["agreement"], name))
    lines = ["| attribute | agreement with tags | images | asked |", "| --- | --- | --- | --- |"]
    for name in order:
        images = sum(asked for _, asked in measured[name]["answers"].values())
        agreement = measured[name]["agreement"]
        asked = "yes" if agreement >= REQUIRED else "no"
        lines.append(f"| {name} | {100 * agreement:.0f} | {images} | {asked} |")
    return "\n".join(lines)
