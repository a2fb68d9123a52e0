"""Training data of the VQA model: drawings at many sizes, questions and answers as ids.

Axes: N or B images, A attributes, V values of an attribute (the most), T tokens of a question,
L of an answer.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

import tfds_retribooru  # noqa: F401  (registers the data set)
from rbjax.models.batch import Array
from rbjax.models.pixels import to_float
from rbjax.vqa.questions import yes_or_no

INPUT = 64  # pixels that the model sees
SIZES = (32, 48, 64, 96, 128)  # pixels at which the model is trained and measured
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]")
MORE_WORDS = (
    "yes no is there solo face clothes the of , ? ."  # also used as prompts of the text encoder
)
Warps = tuple[Array, Array, Array]  # see `warp`
UNSEEN = -1  # label: the image does not show it
NONE = -2  # label: the image is known to have no value of this attribute


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
        pixels: uint8 [N, 128, 128, 3].
        labels: int32 [N, A], index of the value, or UNSEEN, or NONE.
    """

    pixels: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, config: str, split: str, texts: Texts, *, data_dir: Path | None) -> "Images":
        """Reads a split of `avatars/CONFIG`."""
        skip: Any = {"mask": tfds.decode.SkipDecoding()}
        builder = tfds.builder(f"avatars/{config}", data_dir=data_dir)
        source: Any = builder.as_data_source(split=split, decoders=skip)  # TFDS's type is a union
        names: Any = builder.info.features["attributes"]
        labels = np.full((len(source), len(texts.attributes)), UNSEEN, np.int32)
        pixels = np.empty((len(source), 128, 128, 3), np.uint8)
        for i in range(len(source)):
            record = source[i]
            pixels[i] = record["image"]
            for a, name in enumerate(texts.attributes):
                if names[name].int2str(int(record["attributes"][name])) == "none":
                    labels[i, a] = NONE
            for tag in record["prompts"].decode().split(", "):
                if tag in texts.tags:
                    a, v = texts.tags[tag]
                    labels[i, a] = v
        return cls(pixels, labels)


def warp_table(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns matrices [sizes, count, INPUT, 128] that take a row of 128 pixels to the model's.

    Each shifts by up to 2 % of the image, zooms by up to 4 %, blurs a little, area-reduces to its
    size and enlarges as `resize` does. The first of each size only reduces and enlarges.
    """
    table = np.empty((len(SIZES), count, INPUT, 128), np.float32)
    for s, size in enumerate(SIZES):
        enlarge = np.asarray(
            jax.image.resize(jnp.eye(size), (INPUT, size), "linear", antialias=True)
        )
        for k in range(count):
            zoom, shift = (1 + rng.uniform(-0.04, 0.04), rng.uniform(-2.5, 2.5)) if k else (1, 0)
            blur = rng.uniform(0.0, 0.9) * (rng.random() < 0.5) if k else 0
            table[s, k] = enlarge @ blur_matrix(size, blur) @ area_matrix(size, zoom, shift)
    return table


def area_matrix(size: int, zoom: float, shift: float) -> np.ndarray:
    """Returns a matrix [size, 128] that averages over boxes of pixels, after a zoom and a shift.

    Args:
        size: of the result.
        zoom: about the centre; above 1 enlarges.
        shift: of the boxes, in pixels of the 128.
    """
    edges = (np.linspace(0, 128, size + 1) - 64) / zoom + 64 + shift
    low, high = edges[:-1, None], edges[1:, None]
    left, right = np.arange(128.0), np.arange(1.0, 129.0)
    left[0], right[-1] = -128, 256  # what lies beyond the border repeats its last pixel
    cover = np.clip(np.minimum(high, right) - np.maximum(low, left), 0, None)
    return cover / cover.sum(axis=1, keepdims=True)


def blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Returns a Gaussian blur of a row of `size` pixels, [size, size]; `sigma` is in pixels."""
    if sigma < 0.2:
        return np.eye(size)
    distance = np.arange(size)[:, None] - np.arange(size)
    kernel = np.exp(-(distance**2) / (2 * sigma**2))
    return kernel / kernel.sum(axis=1, keepdims=True)


@jax.jit
def warp(table: Array, pixels: Array, warps: Warps) -> jax.Array:
    """Warps images uint8 [B, 128, 128, 3] to [B, 64, 64, 3] in [-1, 1].

    Args:
        table: of `warp_table`.
        pixels: the images.
        warps: for each image, indices into the table: of its size, of the matrix along its height,
            of that along its width; three arrays int [B].
    """
    size, rows, columns = warps
    images = to_float(jnp.asarray(pixels))
    images = jnp.einsum("boh,bhwc->bowc", table[size, rows], images)
    return jnp.einsum("bow,bhwc->bhoc", table[size, columns], images)


def add_noise(images: jax.Array, key: jax.Array) -> jax.Array:
    """Adds fine noise, coarse noise and a slight cast of colour to images [B, 64, 64, 3]."""
    batch = images.shape[0]
    keys = jax.random.split(key, 6)
    fine = jax.random.uniform(keys[0], (batch, 1, 1, 1), maxval=0.08)
    coarse = jax.random.uniform(keys[1], (batch, 1, 1, 1), maxval=0.08)
    noise = jax.random.normal(keys[2], (batch, 16, 16, 3))
    cast = 0.03 * jax.random.normal(keys[3], (batch, 1, 1, 3))
    gain = 1 + 0.04 * jax.random.normal(keys[4], (batch, 1, 1, 1))
    noisy = images * gain + cast + coarse * noise.repeat(4, axis=1).repeat(4, axis=2)
    return noisy + fine * jax.random.normal(keys[5], images.shape)


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
