"""What `train_vqa.py` shows and asks: drawings at many sizes, questions and answers as ids.

Axes: N or B images, A attributes, V values of an attribute (the most), T tokens of a question,
L of an answer.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

import tfds_retribooru  # noqa: F401  (registers the data set)
from rbjax.vqa.questions import yes_or_no

INPUT = 64  # pixels that the model sees
SIZES = (32, 48, 64, 96, 128)  # pixels at which the model is trained and measured
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]")
MORE_WORDS = (
    "yes no is there solo face clothes the of , ? ."  # also used as prompts of the text encoder
)
UNSEEN = -1  # label: cannot be told from the image
NONE = -2  # label: the image is known to have no value of this attribute


@dataclasses.dataclass(frozen=True)
class Texts:
    """All questions and answers as tables of token ids.

    Questions [A, T]; phrases [A, V, T]; answers [A, V, L] end with [SEP], padded with -1;
    `values[a]` are the tags' answers.
    """

    tokenizer: tokenizers.Tokenizer
    attributes: list[str]
    values: list[list[str]]
    tags: dict[str, tuple[int, int]]
    questions: np.ndarray
    phrases: np.ndarray
    answers: np.ndarray
    yes_no: np.ndarray  # [2, L]: "no", "yes"

    @classmethod
    def build(cls, vocabulary: dict) -> "Texts":
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
            tokenizer,
            attributes,
            values,
            {tag: (a, v) for a, tags in enumerate(by_attribute) for v, tag in enumerate(tags)},
            encode(asked),
            np.stack([encode(row + [""] * (most - len(row))) for row in phrases]),
            np.stack([answer(row + [""] * (most - len(row))) for row in values]),
            answer(["no", "yes"]),
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


def token_table(tokenizer, texts: list[str], length: int) -> np.ndarray:
    rows = [tokenizer.encode(text).ids for text in texts]
    return np.array([row + [0] * (length - len(row)) for row in rows], np.int32)


def answer_table(tokenizer, texts: list[str], length: int = 3) -> np.ndarray:
    """Ids of answers of at most two words, each closed by [SEP]; -1 where nothing is to be said."""
    end = tokenizer.token_to_id("[SEP]")
    rows = [[*tokenizer.encode(text, add_special_tokens=False).ids, end] for text in texts]
    return np.array([row + [-1] * (length - len(row)) for row in rows], np.int32)


@dataclasses.dataclass(frozen=True)
class Images:
    """A split in memory: pixels uint8 [N, 128, 128, 3]; labels int [N, A], or UNSEEN, or NONE."""

    pixels: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, config: str, split: str, texts: Texts, data_dir: str | None) -> "Images":
        skip = {"mask": tfds.decode.SkipDecoding()}
        source = tfds.data_source(
            f"avatars/{config}", split=split, data_dir=data_dir, decoders=skip
        )
        names = source.dataset_info.features["attributes"]
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


def view_table(rng: np.random.Generator, count: int) -> np.ndarray:
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
    """Averages 128 pixels to `size` boxes, after a zoom about the centre and a shift in pixels."""
    edges = (np.linspace(0, 128, size + 1) - 64) / zoom + 64 + shift
    low, high = edges[:-1, None], edges[1:, None]
    left, right = np.arange(128.0), np.arange(1.0, 129.0)
    left[0], right[-1] = -128, 256  # what lies beyond the border repeats its last pixel
    cover = np.clip(np.minimum(high, right) - np.maximum(low, left), 0, None)
    return cover / cover.sum(axis=1, keepdims=True)


def blur_matrix(size: int, sigma: float) -> np.ndarray:
    if sigma < 0.2:
        return np.eye(size)
    distance = np.arange(size)[:, None] - np.arange(size)
    kernel = np.exp(-(distance**2) / (2 * sigma**2))
    return kernel / kernel.sum(axis=1, keepdims=True)


@jax.jit
def look(table: jax.Array, pixels: jax.Array, size: jax.Array, rows: jax.Array, columns: jax.Array):
    """Applies a view to each image: uint8 [B, 128, 128, 3] -> [B, 64, 64, 3] in [-1, 1]."""
    images = pixels.astype(jnp.float32) / 127.5 - 1
    images = jnp.einsum("boh,bhwc->bowc", table[size, rows], images)
    return jnp.einsum("bow,bhwc->bhoc", table[size, columns], images)


def disturb(images: jax.Array, key: jax.Array) -> jax.Array:
    """Adds fine noise, coarse noise and a slight cast of colour."""
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
    labels: np.ndarray, texts: Texts, what: int, phrases: int, rng
) -> tuple[np.ndarray, np.ndarray]:
    """Returns question ids [B, Q, T] and answer ids [B, Q, L], -1 where no loss is due.

    Args:
        labels: of the images [B, A].
        texts: tables of questions and answers.
        what: number of "what" questions about an image, of attributes that it shows.
        phrases: number of "is there" questions, of true and wrong tags in equal parts.
        rng: source of chance.
    """
    rows = np.arange(len(labels))[:, None]
    order = np.argsort(rng.random(labels.shape) + 2.0 * (labels < 0), axis=1)[:, :what]
    value = labels[rows, order]
    question = texts.questions[order]
    wanted = np.where(value[..., None] >= 0, texts.answers[order, value], -1)
    order = np.argsort(rng.random(labels.shape) + 2.0 * (labels == UNSEEN), axis=1)[:, :phrases]
    truth = labels[rows, order]
    sizes = np.array([len(v) for v in texts.values])[order]
    other = (np.maximum(truth, 0) + 1 + rng.integers(0, sizes - 1)) % sizes
    yes = (truth >= 0) & (rng.random(truth.shape) < 0.5)
    asked = np.where(yes, truth, other)
    said = np.where((truth != UNSEEN)[..., None], texts.yes_no[yes.astype(int)], -1)
    return (
        np.concatenate([question, texts.phrases[order, asked]], axis=1),
        np.concatenate([wanted, said], axis=1),
    )
