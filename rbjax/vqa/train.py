"""Trains the small BLIP-VQA that ships with the package and measures it on unseen characters.

Drawings are shown at random sizes (area-reduced, then enlarged to the model's input), shifted,
zoomed, blurred and with some noise, because the model will be asked about generated images. First
only the vision model learns, to tag all attributes through a linear layer, which is several times
faster than asking; then the entire model learns to answer "what ...?" and "is there ...?", and the
linear layer is dropped. Afterwards the accuracy of each attribute at each size is measured on
the `test` split; an attribute below 95 % at a size is not asked there.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tensorflow_datasets as tfds
from flax import nnx

from rbjax.interop import huggingface
from rbjax.models.batch import Array
from rbjax.models.bert import BertConfig
from rbjax.models.blip import BlipConfig, BlipForQuestionAnswering, VisionConfig
from rbjax.vqa.accuracy import measure, measure_all, print_table, report
from rbjax.vqa.losses import ModelAndTagger, Tagger, answer_loss, tagging_loss
from rbjax.vqa.training_data import (
    INPUT,
    SIZES,
    Images,
    Texts,
    Warps,
    add_noise,
    choose_questions,
    warp,
    warp_table,
)
from tfds_retribooru import vocabulary

SIZE_WEIGHTS = (0.15, 0.4, 0.2, 0.15, 0.1)  # how often each of SIZES is shown
WARPS = 64  # random warps (shift, zoom, blur) of each size
DECAY = 0.998  # of the averaged parameters
WARM_UP = 100  # steps
CONFIGS = ("centered", "varied")

# pixels uint8 [B, 128, 128, 3], warps (see `warp`), and by name the targets of a loss, of a batch
Sample = tuple[Array, Warps, dict[str, Array]]
TrainState = tuple[Any, optax.OptState, Any]  # parameters, moments, averages


def _option(default: Any, text: str) -> Any:
    """Returns a field of `TrainOptions`; the command line shows its text."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Settings of a training; the options of `scripts/train_vqa.py`."""

    data_dir: Path | None = _option(None, "where TFDS stores data sets")
    out: Path = _option(Path("rbjax/weights/vqa"), "folder to write")
    init: Path | None = _option(None, "folder of weights to start from (default: random)")
    pretrain_steps: int = _option(950, "updates of the vision model alone")
    steps: int = _option(1300, "updates of the entire model")
    batch_size: int = _option(32, "images in a batch (twice that in the first phase)")
    questions: int = _option(6, "'what' questions about an image")
    phrases: int = _option(2, "'is there' questions about an image")
    learning_rate: float = _option(1.2e-3, "peak, after warm-up")
    varied: float = _option(0.15, "share of batches from config `varied`")
    width: int = _option(192, "hidden size")
    heads: int = _option(3, "attention heads")
    layers: int = _option(3, "layers of the vision transformer")
    text_layers: int = _option(1, "layers of each of the two text models")
    patch_size: int = _option(16, "pixels of a patch of the 64 px input")
    every: int = _option(200, "updates between checks and checkpoints")
    seed: int = _option(0, "of weights and chance")


def main(options: TrainOptions) -> None:
    """Trains on the avatars, measures, writes the folder `options.out`."""
    builders = [tfds.builder(f"avatars/{config}", data_dir=options.data_dir) for config in CONFIGS]
    for builder in builders:
        builder.download_and_prepare()
    texts = Texts.build(vocabulary.read(builders[0].data_path))
    train, test = (
        {config: Images.load(config, split, texts, data_dir=options.data_dir) for config in CONFIGS}
        for split in ("train", "test")
    )
    run(train, test, texts=texts, options=options)


def run(
    train: dict[str, Images], test: dict[str, Images], *, texts: Texts, options: TrainOptions
) -> None:
    """Trains, measures and writes; `train` and `test` hold the images of each config."""
    model = BlipForQuestionAnswering(blip_config(options, texts), nnx.Rngs(options.seed))
    if options.init:
        huggingface.fill(model, options.init)
    options.out.mkdir(parents=True, exist_ok=True)
    texts.tokenizer.save(str(options.out / "tokenizer.json"))
    few = Images(test["centered"].pixels[::4], test["centered"].labels[::4])

    def check() -> None:
        accuracy = measure(model, few, texts, sizes=(48, 128))
        print(json.dumps(accuracy), flush=True)
        write(model, report({"centered": accuracy}), options.out)

    fit(model, train, texts=texts, options=options, check=check)
    measured = measure_all(model, test, texts)
    write(model, measured, options.out)
    print_table(measured["accuracy"])


def blip_config(options: TrainOptions, texts: Texts) -> BlipConfig:
    """Returns the model's settings."""
    ids = texts.tokenizer.get_vocab()
    size, heads = options.width, options.heads
    return BlipConfig(
        VisionConfig(
            hidden_size=size,
            intermediate_size=4 * size,
            num_hidden_layers=options.layers,
            num_attention_heads=heads,
            image_size=INPUT,
            patch_size=options.patch_size,
            hidden_act="relu",
        ),
        BertConfig(
            vocab_size=texts.tokenizer.get_vocab_size(),
            hidden_size=size,
            encoder_hidden_size=size,
            intermediate_size=2 * size,
            num_hidden_layers=options.text_layers,
            num_attention_heads=heads,
            hidden_act="relu",
            max_position_embeddings=texts.questions.shape[1],
            bos_token_id=ids["[DEC]"],
            pad_token_id=ids["[PAD]"],
            sep_token_id=ids["[SEP]"],
        ),
    )


def fit(
    model: BlipForQuestionAnswering,
    train: dict[str, Images],
    *,
    texts: Texts,
    options: TrainOptions,
    check: Callable[[], None],
) -> None:
    """Runs both phases and leaves the averaged parameters in `model`.

    Args:
        model: to train.
        train: images of each config.
        texts: tables of questions and answers.
        options: settings.
        check: is called every `options.every` updates of the second phase.
    """
    rng, rate = np.random.default_rng(options.seed), options.learning_rate
    first, second = jax.random.split(jax.random.key(options.seed))
    tagger = Tagger(model.vision_model, texts, nnx.Rngs(options.seed + 1))
    sample = partial(sample_images, train, rng, count=2 * options.batch_size, varied=options.varied)
    schedule = optax.linear_schedule(0.0, rate, WARM_UP)
    run_phase(
        tagger,
        loss_fn=tagging_loss,
        sample=sample,
        schedule=schedule,
        steps=options.pretrain_steps,
        key=first,
    )

    def sample_questions() -> Sample:
        pixels, warps, targets = sample_images(
            train, rng, count=options.batch_size, varied=options.varied
        )
        labels = np.asarray(targets["labels"])
        questions, answers = choose_questions(
            labels, texts, rng, what=options.questions, phrases=options.phrases
        )
        return pixels, warps, {"labels": labels, "questions": questions, "answers": answers}

    steps = options.steps
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, WARM_UP, max(steps, WARM_UP + 1))
    run_phase(
        ModelAndTagger(model, tagger),
        loss_fn=answer_loss,
        sample=sample_questions,
        schedule=schedule,
        steps=steps,
        key=second,
        checks=(options.every, check),
    )


def sample_images(
    train: dict[str, Images], rng: np.random.Generator, *, count: int, varied: float
) -> Sample:
    """Draws pixels, warps and labels.

    Args:
        train: images of each config.
        rng: draws.
        count: B.
        varied: share of batches from the config `varied`.
    """
    images = train["varied" if rng.random() < varied else "centered"]
    chosen = rng.integers(len(images.pixels), size=count)
    size = rng.choice(len(SIZES), size=count, p=SIZE_WEIGHTS)
    warps = (size, *rng.integers(WARPS, size=(2, count)))
    return images.pixels[chosen], warps, {"labels": images.labels[chosen]}


def run_phase(
    module: nnx.Module,
    *,
    loss_fn: Callable[..., jax.Array],
    sample: Callable[[], Sample],
    schedule: optax.Schedule,
    steps: int,
    key: jax.Array,
    checks: tuple[int, Callable[[], None]] | None = None,
) -> None:
    """Trains `module` and leaves the averaged parameters in it.

    Args:
        module: what to train.
        loss_fn: (module, images, **targets) -> loss.
        sample: returns pixels, warps and targets of a batch.
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
    table = jnp.asarray(warp_table(np.random.default_rng(1), WARPS))
    started, losses = time.time(), []
    for count in range(steps):
        noise = jax.random.fold_in(key, count)
        state, loss = step(state, table, sample(), key=noise, count=count)
        losses.append(loss)
        if count % 50 == 0:
            mean = np.mean(jax.device_get(losses[-50:]))
            print(f"{count}: loss {mean:.3f}, {time.time() - started:.0f} s", flush=True)
        if checks and (count + 1) % checks[0] == 0:
            nnx.update(module, jax.tree.map(jnp.copy, state[2]))
            checks[1]()
    nnx.update(module, state[2])


def make_step(
    graph: nnx.GraphDef,
    loss_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """Returns the jitted update of (parameters, optimizer state, averaged parameters)."""

    def loss_of(params: nnx.State, images: jax.Array, targets: dict[str, Array]) -> jax.Array:
        return loss_fn(nnx.merge(graph, params), images, **targets)

    @partial(jax.jit, donate_argnums=0)
    def step(
        state: TrainState,
        table: jax.Array,
        batch: Sample,
        *,
        key: jax.Array,
        count: int,
    ) -> tuple[TrainState, jax.Array]:
        params, opt_state, averaged = state
        pixels, warps, targets = batch
        images = add_noise(warp(table, pixels, warps), key)
        loss, grads = jax.value_and_grad(loss_of)(params, images, targets)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        rate = jnp.minimum(DECAY, (1 + count) / (10 + count))
        averaged = jax.tree.map(lambda a, p: rate * a + (1 - rate) * p, averaged, params)
        return (params, opt_state, averaged), loss

    return step


def write(model: BlipForQuestionAnswering, accuracy: dict[str, Any], folder: Path) -> None:
    """Writes config and weights (half precision) and what is known of their accuracy."""
    huggingface.save(model, folder, dtype=np.dtype(np.float16))
    (folder / "accuracy.json").write_text(json.dumps(accuracy, indent=1) + "\n")
