"""Trains the small BLIP-VQA that ships with the package and measures it on characters it has not seen.

    python scripts/train_vqa.py --data_dir ~/tensorflow_datasets --out rbjax/weights/vqa

Each step shows the model a batch of drawings at random sizes (area-reduced, then enlarged to its input) and
asks about each some attributes that can be seen ("what ...?") and some phrases ("is there ...?", true or
wrong in equal parts). The drawings are shifted, zoomed, blurred and made noisy a little, because the model
will judge generated images. Afterwards the accuracy of each attribute at each size is measured on the
`test` split; an attribute below 95 % at a size is not asked there. About 25 minutes on two CPU cores.
"""

import argparse
import dataclasses
import json
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tensorflow_datasets as tfds
import tokenizers
from flax import nnx
from tokenizers import models, normalizers, pre_tokenizers, processors

import tfds_retribooru  # noqa: F401  (registers the data set)
from rbjax.interop import huggingface
from rbjax.metrics.questions import yes_or_no
from rbjax.models.bert import BertConfig
from rbjax.models.blip import BlipConfig, BlipForQuestionAnswering, VisionConfig

INPUT = 64  # pixels that the model sees
SIZES = (32, 48, 64, 96, 128)  # pixels at which the model is trained and measured
SIZE_WEIGHTS = (0.15, 0.4, 0.2, 0.15, 0.1)  # how often each is shown
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]")
MORE_WORDS = "yes no is there solo face clothes the of , ? ."  # also used as prompts of the text encoder
VIEWS = 64  # random views (shift, zoom, blur) of each size
REQUIRED = 0.95  # accuracy below which an attribute is not asked at a size
UNSEEN = -1  # label: cannot be told from the image
NONE = -2  # label: the image is known to have no value of this attribute


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", default=None, help="where TFDS stores data sets")
    parser.add_argument("--out", default="rbjax/weights/vqa", help="folder to write")
    parser.add_argument("--steps", type=int, default=3000, help="updates")
    parser.add_argument("--batch_size", type=int, default=32, help="images in a batch")
    parser.add_argument("--questions", type=int, default=6, help="'what' questions about an image")
    parser.add_argument("--phrases", type=int, default=2, help="'is there' questions about an image")
    parser.add_argument("--learning_rate", type=float, default=1.5e-3, help="peak, after warm-up")
    parser.add_argument("--varied", type=float, default=0.2, help="share of batches from config `varied`")
    parser.add_argument("--width", type=int, default=128, help="hidden size")
    parser.add_argument("--layers", type=int, default=3, help="layers of the vision transformer")
    parser.add_argument("--text_layers", type=int, default=1, help="layers of the two text models")
    parser.add_argument("--patch_size", type=int, default=8, help="patches of the 64 px input")
    parser.add_argument("--every", type=int, default=500, help="updates between checks and checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed)
    folder = tfds.builder("avatars/centered", data_dir=args.data_dir).data_dir
    vocabulary = json.loads((Path(folder) / "vocabulary.json").read_text())
    texts = Texts.build(vocabulary)
    train = [Images.load(name, "train", texts, args.data_dir) for name in ("centered", "varied")]
    test = [Images.load(name, "test", texts, args.data_dir) for name in ("centered", "varied")]
    model = BlipForQuestionAnswering(blip_config(args, texts), nnx.Rngs(args.seed))
    texts.tokenizer.save(str(make_folder(args.out) / "tokenizer.json"))
    averaged = fit(model, train, test[0], texts, rng, args)
    nnx.update(model, averaged)
    report = measure_all(model, test, texts)
    write(model, report, args.out)
    print_report(report)


# --- texts -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Texts:
    """All questions and answers as tables of token ids.

    Axes: A attributes, V values of an attribute (the most), T and L tokens. Questions [A, T]; phrases
    [A, V, T]; answers [A, V, L] end with [SEP], padded with -1; `values[a]` are the tags' answers.
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
        tokenizer = make_tokenizer([*asked, *entries, *(v for row in values for v in row), MORE_WORDS])
        most = max(map(len, values))
        length = max(len(tokenizer.encode(t).ids) for t in [*asked, *(p for r in phrases for p in r)])
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


def blip_config(args: argparse.Namespace, texts: Texts) -> BlipConfig:
    token = texts.tokenizer.token_to_id
    size, heads = args.width, args.width // 32
    return BlipConfig(
        VisionConfig(size, 4 * size, args.layers, heads, INPUT, args.patch_size, "relu"),
        BertConfig(
            vocab_size=texts.tokenizer.get_vocab_size(),
            hidden_size=size,
            encoder_hidden_size=size,
            intermediate_size=2 * size,
            num_hidden_layers=args.text_layers,
            num_attention_heads=heads,
            hidden_act="relu",
            max_position_embeddings=texts.questions.shape[1],
            bos_token_id=token("[DEC]"),
            pad_token_id=token("[PAD]"),
            sep_token_id=token("[SEP]"),
        ),
    )


# --- images ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Images:
    """A split in memory: pixels uint8 [N, 128, 128, 3]; labels int [N, A], or UNSEEN, or NONE."""

    pixels: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, config: str, split: str, texts: Texts, data_dir: str | None) -> "Images":
        source = tfds.data_source(f"avatars/{config}", split=split, data_dir=data_dir)
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

    Each shifts by up to 2 % of the image, zooms by up to 4 %, blurs a little, area-reduces to its size and
    enlarges as `resize` does. The first of each size only reduces and enlarges.
    """
    table = np.empty((len(SIZES), count, INPUT, 128), np.float32)
    for s, size in enumerate(SIZES):
        enlarge = np.asarray(jax.image.resize(jnp.eye(size), (INPUT, size), "linear", antialias=True))
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
    """Applies a view of the table to each image: uint8 [B, 128, 128, 3] -> [B, 64, 64, 3] in [-1, 1]."""
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


# --- training --------------------------------------------------------------------------------------------


def choose_questions(labels: np.ndarray, texts: Texts, args, rng) -> tuple[np.ndarray, np.ndarray]:
    """Returns question ids [B, Q, T] and answer ids [B, Q, L] about images with these labels [B, A]."""
    rows = np.arange(len(labels))[:, None]
    order = np.argsort(rng.random(labels.shape) + 2.0 * (labels < 0), axis=1)[:, : args.questions]
    value = labels[rows, order]
    what = texts.questions[order]
    wanted = np.where(value[..., None] >= 0, texts.answers[order, value], -1)
    order = np.argsort(rng.random(labels.shape) + 2.0 * (labels == UNSEEN), axis=1)[:, : args.phrases]
    truth = labels[rows, order]
    sizes = np.array([len(v) for v in texts.values])[order]
    other = (np.maximum(truth, 0) + 1 + rng.integers(0, sizes - 1)) % sizes
    yes = (truth >= 0) & (rng.random(truth.shape) < 0.5)
    asked = np.where(yes, truth, other)
    said = np.where((truth != UNSEEN)[..., None], texts.yes_no[yes.astype(int)], -1)
    return (
        np.concatenate([what, texts.phrases[order, asked]], axis=1),
        np.concatenate([wanted, said], axis=1),
    )


def loss_fn(params, graph, images, questions, answers, bos) -> jax.Array:
    """Mean cross-entropy of the answers' tokens."""
    model = nnx.merge(graph, params)
    questions = questions.reshape(-1, questions.shape[-1])
    answers = answers.reshape(-1, answers.shape[-1])
    start = jnp.full((len(answers), 1), bos, jnp.int32)
    inputs = jnp.concatenate([start, jnp.maximum(answers[:, :-1], 0)], axis=1)
    logits = model(images, questions, questions != 0, inputs)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(answers, 0))
    return jnp.sum(losses * (answers >= 0)) / jnp.sum(answers >= 0)


def make_step(graph, optimizer, bos: int, decay: float = 0.998):
    """Returns the jitted update of (parameters, optimizer state, averaged parameters)."""

    @partial(jax.jit, donate_argnums=0)
    def step(state, table, pixels, view, questions, answers, key, count):
        params, opt_state, averaged = state
        images = disturb(look(table, pixels, *view), key)
        loss, grads = jax.value_and_grad(loss_fn)(params, graph, images, questions, answers, bos)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        rate = jnp.minimum(decay, (1 + count) / (10 + count))
        averaged = jax.tree.map(lambda a, p: rate * a + (1 - rate) * p, averaged, params)
        return (params, opt_state, averaged), loss

    return step


def fit(model, train: list[Images], test: Images, texts: Texts, rng, args) -> nnx.State:
    """Trains and returns the averaged parameters; writes them every `args.every` steps."""
    graph, params = nnx.split(model)
    schedule = optax.warmup_cosine_decay_schedule(0.0, args.learning_rate, 200, args.steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.03)
    )
    state = (params, optimizer.init(params), jax.tree.map(jnp.copy, params))
    step = make_step(graph, optimizer, model.config.text.bos_token_id)
    tables = jnp.asarray(view_table(rng, VIEWS))
    key, started, losses = jax.random.key(args.seed), time.time(), []
    for count in range(args.steps):
        images = train[int(rng.random() < args.varied)]
        chosen = rng.integers(len(images.pixels), size=args.batch_size)
        size = rng.choice(len(SIZES), size=args.batch_size, p=SIZE_WEIGHTS)
        view = (size, *rng.integers(VIEWS, size=(2, args.batch_size)))
        asked = choose_questions(images.labels[chosen], texts, args, rng)
        pixels = images.pixels[chosen]
        state, loss = step(state, tables, pixels, view, *asked, jax.random.fold_in(key, count), count)
        losses.append(loss)
        if count % 50 == 0:
            mean = float(np.mean(jax.device_get(losses[-50:])))
            print(f"step {count}: loss {mean:.3f}, {time.time() - started:.0f} s", flush=True)
        if (count + 1) % args.every == 0:
            nnx.update(model, jax.tree.map(jnp.copy, state[2]))
            few = Images(test.pixels[::4], test.labels[::4])
            report = {"centered": measure(model, few, texts, sizes=(48, 128))}
            print(json.dumps(report["centered"]), flush=True)
            write(model, asked_of(report["centered"]) | report, args.out)
    return state[2]


# --- measuring -------------------------------------------------------------------------------------------


@nnx.jit
def logits_of(model, images, questions, answers) -> jax.Array:
    """Logits [B, Q, L, V] of images [B, 64, 64, 3] that are asked questions [B, Q, T]."""
    start = jnp.full((*answers.shape[:2], 1), model.config.text.bos_token_id, jnp.int32)
    inputs = jnp.concatenate([start, jnp.maximum(answers[..., :-1], 0)], axis=-1)
    flat = questions.reshape(-1, questions.shape[-1])
    logits = model(images, flat, flat != 0, inputs.reshape(len(flat), -1))
    return logits.reshape(*answers.shape, -1)


def measure(model, images: Images, texts: Texts, sizes=SIZES, batch_size: int = 50) -> dict:
    """Returns {"what": {attribute: {size: accuracy}}, "is there": {...}} over all visible attributes.

    An answer is right if all its tokens are; "is there" is asked once of the true and once of a wrong tag.
    """
    table = jnp.asarray(view_table(np.random.default_rng(0), 1))
    yes_id, no_id = texts.yes_no[1, 0], texts.yes_no[0, 0]
    result = {kind: {name: {} for name in texts.attributes} for kind in ("what", "is there")}
    columns = np.arange(len(texts.attributes))
    counts = np.array([len(values) for values in texts.values])
    for s, size in enumerate(sizes):
        right = {kind: np.zeros((2, len(columns))) for kind in result}
        for start in range(0, len(images.pixels), batch_size):
            pixels = images.pixels[start : start + batch_size]
            labels = images.labels[start : start + batch_size]
            seen = labels >= 0
            zero = np.zeros(len(pixels), np.int32)
            looked = look(table, pixels, zero + SIZES.index(size), zero, zero)
            value = np.maximum(labels, 0)
            other = (value + 1 + start % (counts - 1)) % counts
            asked = np.concatenate([
                np.broadcast_to(texts.questions, (len(pixels), *texts.questions.shape)),
                texts.phrases[columns, value],
                texts.phrases[columns, other],
            ], axis=1)
            wanted = texts.answers[columns, value]
            answers = np.concatenate([wanted, wanted, wanted], axis=1)
            logits = np.asarray(logits_of(model, looked, asked, answers))
            what, true, wrong = np.split(logits, 3, axis=1)
            good = ((what.argmax(-1) == wanted) | (wanted < 0)).all(-1)
            yes = lambda x: x[:, :, 0, yes_id] > x[:, :, 0, no_id]  # noqa: E731
            right["what"] += [(good & seen).sum(0), seen.sum(0)]
            right["is there"] += [(yes(true) & seen).sum(0) + (~yes(wrong) & seen).sum(0), 2 * seen.sum(0)]
        for kind, (hits, total) in right.items():
            for a, name in enumerate(texts.attributes):
                result[kind][name][size] = round(float(hits[a] / max(total[a], 1)), 4)
    return result


def measure_all(model, test: list[Images], texts: Texts) -> dict:
    centered, varied = (measure(model, images, texts) for images in test)
    return asked_of(centered) | {"centered": centered, "varied": varied}


def asked_of(accuracy: dict) -> dict:
    """Returns which attributes may be asked at which sizes: where both kinds of question are reliable."""
    what, phrase = accuracy["what"], accuracy["is there"]
    return {
        "asked": {
            name: [s for s in what[name] if min(what[name][s], phrase[name][s]) >= REQUIRED]
            for name in what
        }
    }


def make_folder(folder: str) -> Path:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


def write(model, report: dict, folder: str) -> None:
    huggingface.save(model, model.config.to_dict(), make_folder(folder), dtype=np.float16)
    (Path(folder) / "accuracy.json").write_text(json.dumps(report, indent=1) + "\n")


def print_report(report: dict) -> None:
    for config in ("centered", "varied"):
        for kind, table in report[config].items():
            print(f"\n{config}, {kind}")
            for name, row in table.items():
                print(f"  {name:16}" + "".join(f"{size:>6}: {100 * row[size]:5.1f}" for size in row))
            means = [np.mean([row[size] for row in table.values()]) for size in SIZES]
            print("  mean            " + "".join(f"{s:>6}: {100 * m:5.1f}" for s, m in zip(SIZES, means)))


if __name__ == "__main__":
    main(parse_args())
