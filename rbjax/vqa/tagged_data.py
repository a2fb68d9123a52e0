"""Training data of a VQA model for any data set with tags: questions by rule, balanced answers.

Where a question's answer is "yes", images without such a tag say "no", as in `judge.choose`. Axes
are those of training_data.py.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from rbjax.data.bad_records import BadRecord, Skipped
from rbjax.data.image_cache import ConceptCrops
from rbjax.models.batch import Array
from rbjax.text.concepts import CHARACTER
from rbjax.vqa.framing import BLUR, frame_matrices
from rbjax.vqa.judge import NO
from rbjax.vqa.model import OUR_MAX_NEW_TOKENS
from rbjax.vqa.questions import yes_or_no
from rbjax.vqa.tag_questions import YES
from rbjax.vqa.training_data import (
    MORE_WORDS,
    UNSEEN,
    Sample,
    Texts,
    answer_table,
    make_tokenizer,
    token_table,
)
from tfds_retribooru import tag_text
from tfds_retribooru.avatars.portraits import WHOLE, Frame

LEAST = 8  # images of an answer that is learned; an attribute needs two such answers
SMALLEST_CROP = 0.8  # share of the image's side
SMALLEST_SIZE = 0.35  # share of the side to which an image may be reduced

# attribute -> answer -> tag -> images; "no" has no tag
Counts = Mapping[str, Mapping[str, Mapping[str, int]]]


def count_answers(tags: Sequence[Sequence[str]], vocabulary: Mapping[str, Any]) -> Counts:
    """Counts what tags answer: attributes with two answers or more that LEAST images give.

    Args:
        tags: of each record.
        vocabulary: of `tag_questions.complete`.
    """
    entries, questions = vocabulary["tags"], vocabulary["questions"]
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    answered: Counter[str] = Counter()
    for record in tags:
        shown = {tag: entries[tag] for tag in record if tag in entries}
        shown = {tag: entry for tag, entry in shown.items() if entry["attribute"] in questions}
        for tag, entry in shown.items():
            counts[entry["attribute"]][entry["answer"]][tag] += 1
        answered.update({entry["attribute"] for entry in shown.values()})
    kept = {}
    for name, answers in sorted(counts.items()):
        if YES in answers:
            answers[NO] = Counter({"": len(tags) - answered[name]})
        often = {a: dict(by_tag) for a, by_tag in answers.items() if by_tag.total() >= LEAST}
        if len(often) > 1:
            kept[name] = often
    return kept


def build_texts(
    counts: Counts, vocabulary: Mapping[str, Any], tokenizer: tokenizers.Tokenizer | None = None
) -> Texts:
    """Builds the tables of questions and answers.

    Args:
        counts: of `count_answers`.
        vocabulary: as there.
        tokenizer: that knows the words; None: one is made of them. Answers of more tokens than are
            generated are left out, with their attribute if fewer than two remain.

    Raises:
        ValueError: nothing can be asked.
    """
    questions, tags = vocabulary["questions"], vocabulary["tags"]
    if tokenizer is None:
        texts = [questions[name] for name in counts] + [tag_text.normal(tag) for tag in tags]
        answers = [answer for of in counts.values() for answer in of]
        tokenizer = make_tokenizer([*texts, *answers, MORE_WORDS])
    values: dict[str, list[str]] = {}
    for name, of in counts.items():
        short = [a for a in sorted(of, key=lambda a: -sum(of[a].values())) if _fits(a, tokenizer)]
        if len(short) > 1:
            values[name] = short
    if not values:
        raise ValueError(
            f"the tags answer no question in two ways, each {LEAST} times or more: there is "
            "nothing to train on. See rbjax/vqa/question_rules.toml for the tags that are asked"
        )
    return _tables(counts, questions, values, tokenizer)


def _fits(answer: str, tokenizer: tokenizers.Tokenizer) -> bool:
    found = tokenizer.encode(answer, add_special_tokens=False)
    return len(found.ids) < OUR_MAX_NEW_TOKENS and "[UNK]" not in found.tokens


def _tables(
    counts: Counts,
    questions: Mapping[str, str],
    values: Mapping[str, list[str]],
    tokenizer: tokenizers.Tokenizer,
) -> Texts:
    most = max(map(len, values.values()))
    phrases = [
        [_phrase(counts[name][answer]) for answer in answers] + [""] * (most - len(answers))
        for name, answers in values.items()
    ]
    asked = [questions[name] for name in values]
    length = max(len(tokenizer.encode(t).ids) for t in [*asked, *(p for r in phrases for p in r)])
    answered = [row + [""] * (most - len(row)) for row in values.values()]
    return Texts(
        tokenizer=tokenizer,
        attributes=list(values),
        values=list(values.values()),
        tags={
            tag: (a, v)
            for a, (name, answers) in enumerate(values.items())
            for v, answer in enumerate(answers)
            for tag in counts[name][answer]
            if tag
        },
        questions=token_table(tokenizer, asked, length),
        phrases=np.stack([token_table(tokenizer, row, length) for row in phrases]),
        answers=np.stack([answer_table(tokenizer, r, OUR_MAX_NEW_TOKENS) for r in answered]),
        yes_no=answer_table(tokenizer, [NO, YES], OUR_MAX_NEW_TOKENS),
    )


def _phrase(by_tag: Mapping[str, int]) -> str:
    """Returns the question for the most frequent tag of an answer; "" where it has none."""
    tag = max(by_tag, key=lambda tag: (by_tag[tag], tag))
    return yes_or_no(tag_text.normal(tag)) if tag else ""


def label(tags: Sequence[Sequence[str]], texts: Texts) -> np.ndarray:
    """Returns labels int32 [N, A]: what the tags of N records answer.

    Two answers of one record are none: UNSEEN.
    """
    labels = np.full((len(tags), len(texts.attributes)), UNSEEN, np.int32)
    for a, answers in enumerate(texts.values):
        if NO in answers and YES in answers:
            labels[:, a] = answers.index(NO)
    for i, record in enumerate(tags):
        found: dict[int, set[int]] = defaultdict(set)
        for a, v in (texts.tags[tag] for tag in record if tag in texts.tags):
            found[a].add(v)
        for a, several in found.items():
            labels[i, a] = several.pop() if len(several) == 1 else UNSEEN
    return labels


def keep_rates(labels: np.ndarray, values: int) -> np.ndarray:
    """Returns how often a label is kept, [A, V]: none more often than all others together."""
    counts = np.stack([(labels == v).sum(axis=0) for v in range(values)], axis=1)
    others = counts.sum(axis=1, keepdims=True) - counts
    return np.minimum(1.0, others / np.maximum(counts, 1))


@dataclasses.dataclass(frozen=True)
class Tagged:
    """A split, as its images and tags train a VQA model.

    Attributes:
        crops: its entire images, uint8 [C, C, 3].
        labels: int32 [N, A].
        rates: of `keep_rates`.
        skipped: the records that cannot be decoded.
    """

    crops: ConceptCrops
    labels: np.ndarray
    rates: np.ndarray
    skipped: Skipped = dataclasses.field(default_factory=Skipped)

    def read(self, position: int) -> tuple[int, np.ndarray]:
        """Returns the first record from `position` on whose image can be decoded, and the image."""
        while True:
            try:
                return position, self.crops[position, CHARACTER]
            except BadRecord as error:
                self.skipped.add(error, self.crops.split)  # raises where there are too many
                position = self.crops.following(position)

    def sample(self, rng: np.random.Generator, *, count: int, target: int, patches: int) -> Sample:
        """Draws images, frames and balanced labels; where an attribute is seen is not known.

        Args:
            rng: draws.
            count: B.
            target: S.
            patches: of the model.
        """
        drawn = [self.read(int(i)) for i in rng.integers(len(self.labels), size=count)]
        labels = self.labels[[position for position, _ in drawn]]
        kept = rng.random(labels.shape) < self.rates[np.arange(labels.shape[1]), labels]
        length = self.crops.size
        matrices = [random_warp(rng, length=length, target=target) for _ in range(count)]
        rows, columns = (np.stack(part) for part in zip(*matrices, strict=True))
        targets: dict[str, Array] = {
            "labels": np.where(kept & (labels >= 0), labels, UNSEEN),
            "places": np.zeros((*labels.shape, patches), bool),
        }
        return np.stack([image for _, image in drawn]), (rows, columns), targets


def random_warp(
    rng: np.random.Generator, *, length: int, target: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a crop, mirrored or not, its size in pixels, and a slight blur; see framing.py."""
    side = rng.uniform(SMALLEST_CROP, 1.0)
    left, top = rng.uniform(0.0, 1.0 - side, 2)
    frame = Frame(
        WHOLE.left + left * WHOLE.side,
        WHOLE.top + top * WHOLE.side,
        side * WHOLE.side,
        bool(rng.random() < 0.5),
    )
    size = round(length * rng.uniform(SMALLEST_SIZE, 1.0)) if rng.random() < 0.5 else length
    blur = rng.uniform(0, BLUR) if rng.random() < 0.4 else 0.0
    return frame_matrices(frame, size=size, target=target, length=length, blur=blur)


def choose_questions(
    labels: np.ndarray, texts: Texts, rng: np.random.Generator, *, what: int, phrases: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns question ids [B, Q, T] and answer ids [B, Q, L], -1 where no loss is due.

    Args:
        labels: of the images, [B, A].
        texts: tables of questions and answers.
        rng: draws.
        what: number of the attributes' questions about an image.
        phrases: number of "is there" questions about an image.
    """
    rows = np.arange(len(labels))[:, None]

    def drawn(count: int) -> np.ndarray:
        return np.argsort(rng.random(labels.shape) + 2.0 * (labels < 0), axis=1)[:, :count]

    order = drawn(what)
    value = labels[rows, order]
    answer = np.where(value[..., None] >= 0, texts.answers[order, value], -1)
    question = texts.questions[order]
    order = drawn(phrases)
    truth = labels[rows, order]
    empty = token_table(texts.tokenizer, [""], texts.phrases.shape[-1])
    has_phrase = (texts.phrases != empty).any(axis=-1)[order]  # [B, Q, V]
    sizes = np.array([len(v) for v in texts.values])[order]
    other = (np.maximum(truth, 0) + 1 + rng.integers(0, sizes - 1)) % sizes
    asked = np.where(rng.random(truth.shape) < 0.5, np.maximum(truth, 0), other)
    spoken = np.take_along_axis(has_phrase, asked[..., None], axis=-1)[..., 0]
    asked = np.where(spoken, asked, has_phrase.argmax(axis=-1))
    yes_no = np.where((truth >= 0)[..., None], texts.yes_no[(asked == truth).astype(int)], -1)
    return (
        np.concatenate([question, texts.phrases[order, asked]], axis=1),
        np.concatenate([answer, yes_no], axis=1),
    )
