"""Trains the small BLIP-VQA that ships with the package and measures it on unseen characters.

    python rbjax/vqa/train.py --out rbjax/weights/vqa

Drawings are shown at random sizes (area-reduced, then enlarged to the model's input), shifted,
zoomed, blurred and made noisy a little, because the model will judge generated images. First the
vision model learns alone to name all attributes through a linear layer, which is several times
faster than asking; then the whole model learns to answer "what ...?" and "is there ...?", and the
linear layer is thrown away. Afterwards the accuracy of each attribute at each size is measured on
the `test` split; an attribute below 95 % at a size is not asked there.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tensorflow_datasets as tfds
from flax import nnx

from rbjax.interop import huggingface
from rbjax.models.bert import BertConfig
from rbjax.models.blip import BlipConfig, BlipForQuestionAnswering, VisionConfig
from rbjax.vqa.accuracy import measure, measure_all, print_table, report
from rbjax.vqa.training_data import (
    INPUT,
    SIZES,
    Images,
    Texts,
    choose_questions,
    disturb,
    look,
    view_table,
)
from tfds_retribooru import vocabulary

SIZE_WEIGHTS = (0.15, 0.4, 0.2, 0.15, 0.1)  # how often each of SIZES is shown
VIEWS = 64  # random views (shift, zoom, blur) of each size
DECAY = 0.998  # of the averaged parameters
CONFIGS = ("centered", "varied")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line (`argv` in its place)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data_dir", default=None, help="where TFDS stores data sets")
    add("--out", default="rbjax/weights/vqa", help="folder to write")
    add("--init", default=None, help="folder of weights to start from (default: random)")
    add("--pretrain_steps", type=int, default=950, help="updates of the vision model alone")
    add("--steps", type=int, default=1300, help="updates of the whole model")
    add(
        "--batch_size",
        type=int,
        default=32,
        help="images in a batch (twice that in the first phase)",
    )
    add("--questions", type=int, default=6, help="'what' questions about an image")
    add("--phrases", type=int, default=2, help="'is there' questions about an image")
    add("--learning_rate", type=float, default=1.2e-3, help="peak, after warm-up")
    add("--varied", type=float, default=0.15, help="share of batches from config `varied`")
    add("--width", type=int, default=192, help="hidden size")
    add("--heads", type=int, default=3, help="attention heads")
    add("--layers", type=int, default=3, help="layers of the vision transformer")
    add("--text_layers", type=int, default=1, help="layers of each of the two text models")
    add("--patch_size", type=int, default=16, help="pixels of a patch of the 64 px input")
    add("--every", type=int, default=200, help="updates between checks and checkpoints")
    add("--seed", type=int, default=0, help="of weights and chance")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    """Trains, measures, writes the folder `args.out`."""
    builders = [tfds.builder(f"avatars/{config}", data_dir=args.data_dir) for config in CONFIGS]
    for builder in builders:
        builder.download_and_prepare()
    texts = Texts.build(vocabulary.read(builders[0].data_path))
    train, test = (
        {config: Images.load(config, split, texts, args.data_dir) for config in CONFIGS}
        for split in ("train", "test")
    )
    run(train, test, texts, args)


def run(train: dict[str, Images], test: dict[str, Images], texts: Texts, args) -> None:
    """Trains, measures and writes; `train` and `test` hold the images of each config."""
    model = BlipForQuestionAnswering(blip_config(args, texts), nnx.Rngs(args.seed))
    if args.init:
        huggingface.fill(model, args.init)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    texts.tokenizer.save(str(Path(args.out) / "tokenizer.json"))
    few = Images(test["centered"].pixels[::4], test["centered"].labels[::4])

    def check() -> None:
        accuracy = measure(model, few, texts, sizes=(48, 128))
        print(json.dumps(accuracy), flush=True)
        write(model, report({"centered": accuracy}), args.out)

    fit(model, train, texts, check, args)
    measured = measure_all(model, test, texts)
    write(model, measured, args.out)
    print_table(measured["accuracy"])


def blip_config(args: argparse.Namespace, texts: Texts) -> BlipConfig:
    """Returns the model's settings."""
    token = texts.tokenizer.token_to_id
    size, heads = args.width, args.heads
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


class Namer(nnx.Module):
    """A vision model and a linear layer that names all attributes at once from all its states."""

    def __init__(self, vision: nnx.Module, texts: Texts, rngs: nnx.Rngs):
        attributes, values = texts.answers.shape[:2]
        length = vision.embeddings.position_embedding[0].size
        self.vision = vision
        self.head = nnx.Linear(length, attributes * values, rngs=rngs)

    def loss(self, states: jax.Array, labels: jax.Array) -> jax.Array:
        """Mean cross-entropy of the visible attributes; states [B, P, D], labels [B, A]."""
        logits = self.head(states.reshape(states.shape[0], -1)).reshape(*labels.shape, -1)
        return mean_cross_entropy(logits, labels)


class Trainee(nnx.Module):
    """The whole model, and the namer of its vision model."""

    def __init__(self, model: BlipForQuestionAnswering, namer: Namer):
        self.model = model
        self.namer = namer


def mean_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the labels that are not negative; logits [..., V], labels [...]."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return jnp.sum(losses * (labels >= 0)) / jnp.sum(labels >= 0)


def naming_loss(namer: Namer, images: jax.Array, labels: jax.Array) -> jax.Array:
    """The loss of the first phase: images [B, H, W, 3], labels [B, A]."""
    return namer.loss(namer.vision(images), labels)


def answer_loss(trainee: Trainee, images, labels, questions, answers) -> jax.Array:
    """The loss of the second phase: answers [B, Q, L] to questions [B, Q, T], plus naming."""
    model = trainee.model
    questions = questions.reshape(-1, questions.shape[-1])
    answers = answers.reshape(-1, answers.shape[-1])
    start = jnp.full((len(answers), 1), model.config.text.bos_token_id, jnp.int32)
    inputs = jnp.concatenate([start, jnp.maximum(answers[:, :-1], 0)], axis=1)
    states = model.vision_model(images)
    asked = model.text_encoder(questions, questions != 0, states)
    logits = model.text_decoder(inputs, None, asked, questions != 0)
    return mean_cross_entropy(logits, answers) + trainee.namer.loss(states, labels)


def fit(model, train: dict[str, Images], texts: Texts, check: Callable[[], None], args) -> None:
    """Runs both phases and leaves the averaged parameters in `model`."""
    rng, rate, warm_up = np.random.default_rng(args.seed), args.learning_rate, 100
    first, second = jax.random.split(jax.random.key(args.seed))
    namer = Namer(model.vision_model, texts, nnx.Rngs(args.seed + 1))
    sample = partial(sample_images, train, rng, 2 * args.batch_size, args.varied)
    schedule = optax.linear_schedule(0.0, rate, warm_up)
    run_phase(namer, naming_loss, sample, schedule, args.pretrain_steps, first)

    def sample_questions():
        pixels, view, labels = sample_images(train, rng, args.batch_size, args.varied)
        asked = choose_questions(labels, texts, args.questions, args.phrases, rng)
        return pixels, view, labels, *asked

    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warm_up, max(args.steps, warm_up + 1))
    trainee = Trainee(model, namer)
    checks = (args.every, check)
    run_phase(trainee, answer_loss, sample_questions, schedule, args.steps, second, checks)


def sample_images(train: dict[str, Images], rng, count: int, varied: float) -> tuple:
    """Returns random pixels, views (size, rows, columns: indices of the view table), labels."""
    images = train["varied" if rng.random() < varied else "centered"]
    chosen = rng.integers(len(images.pixels), size=count)
    size = rng.choice(len(SIZES), size=count, p=SIZE_WEIGHTS)
    view = (size, *rng.integers(VIEWS, size=(2, count)))
    return images.pixels[chosen], view, images.labels[chosen]


def run_phase(module, loss_fn, sample, schedule, steps: int, key: jax.Array, checks=None) -> None:
    """Trains `module` and leaves the averaged parameters in it.

    Args:
        module: what to train.
        loss_fn: (module, images, *targets) -> loss.
        sample: returns pixels, views and targets of a batch.
        schedule: learning rate by step.
        steps: updates.
        key: of the noise on images.
        checks: (n, function to call every n updates, when the averaged parameters are in `module`).
    """
    graph, params = nnx.split(module)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.03)
    )
    state = (params, optimizer.init(params), jax.tree.map(jnp.copy, params))
    step = make_step(graph, loss_fn, optimizer)
    table = jnp.asarray(view_table(np.random.default_rng(1), VIEWS))
    started, losses = time.time(), []
    for count in range(steps):
        pixels, view, *targets = sample()
        noise = jax.random.fold_in(key, count)
        state, loss = step(state, table, pixels, view, targets, noise, count)
        losses.append(loss)
        if count % 50 == 0:
            mean = np.mean(jax.device_get(losses[-50:]))
            print(f"{count}: loss {mean:.3f}, {time.time() - started:.0f} s", flush=True)
        if checks and (count + 1) % checks[0] == 0:
            nnx.update(module, jax.tree.map(jnp.copy, state[2]))
            checks[1]()
    nnx.update(module, state[2])


def make_step(graph, loss_fn, optimizer) -> Callable:
    """Returns the jitted update of (parameters, optimizer state, averaged parameters)."""

    def loss_of(params, images, targets):
        return loss_fn(nnx.merge(graph, params), images, *targets)

    @partial(jax.jit, donate_argnums=0)
    def step(state, table, pixels, view, targets, key, count):
        params, opt_state, averaged = state
        images = disturb(look(table, pixels, *view), key)
        loss, grads = jax.value_and_grad(loss_of)(params, images, targets)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        rate = jnp.minimum(DECAY, (1 + count) / (10 + count))
        averaged = jax.tree.map(lambda a, p: rate * a + (1 - rate) * p, averaged, params)
        return (params, opt_state, averaged), loss

    return step


def write(model, accuracy: dict, folder: str) -> None:
    """Writes config and weights (half precision) and what is known of their accuracy."""
    huggingface.save(model, folder, dtype=np.float16)
    (Path(folder) / "accuracy.json").write_text(json.dumps(accuracy, indent=1) + "\n")
