"""Training data of the VQA model: drawings at many sizes, questions and answers as ids.

Axes: N or B images, A attributes, V values of an attribute (the most), T tokens of a question,
L of an answer.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

import tfds_retribooru  # noqa: F401  (registers the data set)
from rbjax.models.batch import Array
from rbjax.vqa.framing import BLUR, SIZES, frame_matrices, place_masks
from rbjax.vqa.questions import yes_or_no
from tfds_retribooru.avatars import attributes
from tfds_retribooru.avatars.portraits import Frame, moving_frame

INPUT = 120  # pixels that the model sees: 12 x 12 patches of 10
SIZE_WEIGHTS = (0.1, 0.1, 0.15, 0.65)  # how often each of SIZES is shown
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]")
MORE_WORDS = (
    "yes no is there solo face clothes the of , ? ."  # also used as prompts of the text encoder
)
Warps = tuple[Array, Array]  # matrices for rows and columns, see `framing.warp`
UNSEEN = -1  # label: the image does not show it
NONE = -2  # label: the image is known to have no value of this attribute
# pixels uint8 [B, C, C, 3], warps, and by name the targets of a loss, of a batch
Sample = tuple[Array, Warps, dict[str, Array]]


@dataclasses.dataclass(frozen=True)
class Texts:
    """All questions and answers as tables of token ids.

    Attributes:
        tokenizer: of questions and answers.
        attributes: names [A].
        values: answers of each attribute's tags.
        tags: tag to (attribute, value).
        questions: int32 [A, T], "what ...?".
        phrases: int32 [A, V, T], "is there ...?".
        answers: int32 [A, V, L], each closed by [SEP], padded with -1.
        yes_no: int32 [2, L]: "no", "yes".
    """

    tokenizer: tokenizers.Tokenizer
    attributes: list[str]
    values: list[list[str]]
    tags: dict[str, tuple[int, int]]
    questions: np.ndarray
    phrases: np.ndarray
    answers: np.ndarray
    yes_no: np.ndarray

    @classmethod
    def build(cls, vocabulary: dict[str, Any]) -> "Texts":
        """Builds the tables, and a tokenizer of their words, from a data set's vocabulary."""
        attributes = list(vocabulary["questions"])
        entries = vocabulary["tags"]
        by_attribute = [
            [tag for tag in entries if entries[tag]["attribute"] == name] for name in attributes
        ]
        values = [[entries[tag]["answer"] for tag in tags] for tags in by_attribute]
        asked = [vocabulary["questions"][name] for name in attributes]
        phrases = [[yes_or_no(tag) for tag in tags] for tags in by_attribute]
        tokenizer = make_tokenizer(
            [*asked, *entries, *(v for row in values for v in row), MORE_WORDS]
        )
        most = max(map(len, values))
        length = max(
            len(tokenizer.encode(t).ids) for t in [*asked, *(p for r in phrases for p in r)]
        )
        encode = partial(token_table, tokenizer, length=length)
        answer = partial(answer_table, tokenizer)
        return cls(
            tokenizer=tokenizer,
            attributes=attributes,
            values=values,
            tags={tag: (a, v) for a, tags in enumerate(by_attribute) for v, tag in enumerate(tags)},
            questions=encode(asked),
            phrases=np.stack([encode(row + [""] * (most - len(row))) for row in phrases]),
            answers=np.stack([answer(row + [""] * (most - len(row))) for row in values]),
            yes_no=answer(["no", "yes"]),
        )


def make_tokenizer(texts: list[str]) -> tokenizers.Tokenizer:
    """Returns a word tokenizer of all words in `texts` that frames a text as [CLS] text [SEP]."""
    split = pre_tokenizers.Whitespace()
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text.lower())})
    ids = {word: i for i, word in enumerate([*SPECIAL, *words])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def token_table(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], length: int) -> np.ndarray:
    """Returns ids of questions, int32 [len(texts), length], padded with 0."""
    rows = [tokenizer.encode(text).ids for text in texts]
    return np.array([row + [0] * (length - len(row)) for row in rows], np.int32)


def answer_table(
    tokenizer: tokenizers.Tokenizer, texts: Sequence[str], length: int = 3
) -> np.ndarray:
    """Returns ids of answers of at most two words, closed by [SEP] and padded with -1."""
    end = tokenizer.token_to_id("[SEP]")
    rows = [[*tokenizer.encode(text, add_special_tokens=False).ids, end] for text in texts]
    return np.array([row + [-1] * (length - len(row)) for row in rows], np.int32)


@dataclasses.dataclass(frozen=True)
class Images:
    """A split in memory.

    Attributes:
        pixels: uint8 [N, C, C, 3].
        labels: int32 [N, A], index of the value, or UNSEEN, or NONE.
    """

    pixels: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, config: str, split: str, texts: Texts, *, data_dir: Path | None) -> "Images":
        """Reads a split of `avatars/CONFIG`; labels are by what `attributes.visible` says."""
        skip: Any = {"mask": tfds.decode.SkipDecoding()}
        builder = tfds.builder(f"avatars/{config}", data_dir=data_dir)
        source: Any = builder.as_data_source(split=split, decoders=skip)  # TFDS's type is a union
        names: Any = builder.info.features["attributes"]
        labels = np.full((len(source), len(texts.attributes)), UNSEEN, np.int32)
        side = builder.info.features["image"].shape[0]
        pixels = np.empty((len(source), side, side, 3), np.uint8)
        for i in range(len(source)):
            record = source[i]
            pixels[i] = record["image"]
            values = {n: label.int2str(int(record["attributes"][n])) for n, label in names.items()}
            for a, name in enumerate(texts.attributes):
                if values[name] == "none":
                    labels[i, a] = NONE
            for tag in attributes.tags(values):
                a, v = texts.tags[tag]
                labels[i, a] = v
        return cls(pixels, labels)

    def some(self, count: int) -> "Images":
        """Returns about `count` of them, evenly chosen."""
        step = max(1, len(self.pixels) // count)
        return Images(self.pixels[::step], self.labels[::step])


@dataclasses.dataclass(frozen=True)
class FrameOptions:
    """Which drawings and frames are shown.

    Attributes:
        moving: rate of those that move; the others are nearly those of `centered`.
        patches: of the model, in a row.
        rare: rate of drawings that show the attribute that is shown least often (prints).
    """

    moving: float
    patches: int
    rare: float = 0.0


def sample_images(
    train: Images,
    rng: np.random.Generator,
    *,
    count: int,
    options: FrameOptions,
    names: list[str],
) -> Sample:
    """Draws drawings, frames, sizes and labels.

    Args:
        train: entire drawings (`avatars/whole`).
        rng: draws.
        count: B.
        options: which frames.
        names: of the attributes.
    """
    chosen = _choose(train, rng, count, rare=options.rare)
    sizes = rng.choice(SIZES, size=count, p=SIZE_WEIGHTS)
    frames = [random_frame(rng, options.moving) for _ in range(count)]
    blurs = rng.uniform(0, BLUR, count) * (rng.random(count) < 0.4)
    matrices = [
        frame_matrices(
            frame, size=int(size), target=INPUT, length=train.pixels.shape[1], blur=float(blur)
        )
        for frame, size, blur in zip(frames, sizes, blurs, strict=True)
    ]
    rows, columns = (np.stack(part) for part in zip(*matrices, strict=True))
    places = np.stack([place_masks(f, names, patches=options.patches) for f in frames])
    return train.pixels[chosen], (rows, columns), {"labels": train.labels[chosen], "places": places}


def _choose(train: Images, rng: np.random.Generator, count: int, *, rare: float) -> np.ndarray:
    """Returns positions of drawings [count], a share of those with the rarest attribute."""
    if not rare:
        return rng.integers(len(train.pixels), size=count)
    shown = train.labels >= 0
    few = np.flatnonzero(shown[:, shown.mean(axis=0).argmin()])
    return np.where(
        rng.random(count) < rare,
        rng.choice(few, size=count),
        rng.integers(len(train.pixels), size=count),
    )


def random_frame(rng: np.random.Generator, moving: float) -> Frame:
    """Returns a frame of `varied`, or one close to that of `centered` (with rate 1 - moving)."""
    if rng.random() < moving:
        return moving_frame(rng)
    plain = Frame()
    left, top, side = rng.uniform(-5, 5, 3)
    return Frame(plain.left + left, plain.top + top, plain.side + side)


def choose_questions(
    labels: np.ndarray, texts: Texts, rng: np.random.Generator, *, what: int, phrases: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns question ids [B, Q, T] and answer ids [B, Q, L], -1 where no loss is due.

    Args:
        labels: of the images [B, A].
        texts: tables of questions and answers.
        rng: draws.
        what: number of "what" questions about an image, of attributes that it shows.
        phrases: number of "is there" questions, of true and wrong tags in equal parts.
    """
    rows = np.arange(len(labels))[:, None]
    order = np.argsort(rng.random(labels.shape) + 2.0 * (labels < 0), axis=1)[:, :what]
    value = labels[rows, order]
    question = texts.questions[order]
    answer = np.where(value[..., None] >= 0, texts.answers[order, value], -1)
    order = np.argsort(rng.random(labels.shape) + 2.0 * (labels == UNSEEN), axis=1)[:, :phrases]
    truth = labels[rows, order]
    sizes = np.array([len(v) for v in texts.values])[order]
    other = (np.maximum(truth, 0) + 1 + rng.integers(0, sizes - 1)) % sizes
    yes = (truth >= 0) & (rng.random(truth.shape) < 0.5)
    asked = np.where(yes, truth, other)
    yes_no = np.where((truth != UNSEEN)[..., None], texts.yes_no[yes.astype(int)], -1)
    return (
        np.concatenate([question, texts.phrases[order, asked]], axis=1),
        np.concatenate([answer, yes_no], axis=1),
    )
