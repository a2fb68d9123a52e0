"""Trains the small BLIP-VQA that ships with the package and measures it on unseen characters.

Entire drawings of characters whom nobody evaluates (`avatars/whole`) are shown in moving frames, at
random sizes (area-reduced, then enlarged to the model's input), blurred and with some noise,
because the model will be asked about generated images. First only the vision model learns, to tag
all attributes; then the entire model learns to answer "what ...?" and "is there ...?" as well.
What tags is dropped. The accuracy of each attribute at each size is measured on the `validation`
splits of `centered` and `varied`; an attribute below 95 % in one of them is not asked at that size.
`test` is measured too, and decides nothing.

A training that was ended goes on when it is started again with the same options.
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
from rbjax.vqa.accuracy import measure, measure_all, report, table
from rbjax.vqa.checkpoint import restore, save
from rbjax.vqa.framing import SIZES, add_noise, warp
from rbjax.vqa.losses import ModelAndTagger, Tagger, answer_loss, tagging_loss
from rbjax.vqa.training_data import (
    INPUT,
    FrameOptions,
    Images,
    Sample,
    Texts,
    choose_questions,
    sample_images,
)
from tfds_retribooru import vocabulary

DECAY = 0.99  # of the averaged parameters
WARM_UP = 100  # steps
COOL_DOWN = 0.3  # of all steps
MEASURED = ("centered", "varied")  # configs
CHECKED = 200  # images of a check
CHECKPOINT = "checkpoint.npz"  # beside the weights, until the training ends

TrainState = tuple[Any, optax.OptState, Any]  # parameters, moments, averages


def _option(default: Any, text: str) -> Any:
    """Returns a field of `TrainOptions`; the command line shows its text."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Settings of a training; the options of `scripts/train_vqa.py`."""

    dataset: str | None = _option(None, "with tags, such as folder/384 (default: the avatars)")
    data_dir: Path | None = _option(None, "where TFDS stores data sets")
    out: Path = _option(Path("rbjax/weights/vqa"), "folder to write")
    init: Path | None = _option(None, "folder of weights to start from (default: random)")
    pretrain_steps: int = _option(1000, "updates of the vision model alone")
    steps: int = _option(6500, "updates of the entire model, after those")
    batch_size: int = _option(32, "images in a batch")
    questions: int = _option(6, "'what' questions about an image")
    phrases: int = _option(3, "'is there' questions about an image")
    learning_rate: float = _option(1.2e-3, "peak, after warm-up; falls to 0 over the last 0.3")
    varied: float = _option(0.85, "share of figures that move")
    rare: float = _option(0.25, "share of images with what is seldom shown, after pretraining")
    width: int = _option(128, "hidden size")
    heads: int = _option(4, "attention heads")
    layers: int = _option(4, "layers of the vision transformer")
    text_layers: int = _option(1, "layers of each of the two text models")
    patch_size: int = _option(10, f"pixels of a patch of the {INPUT} px input")
    every: int = _option(250, "updates between checks and checkpoints")
    seed: int = _option(0, "of weights and chance")


def main(options: TrainOptions) -> None:
    """Trains on the avatars, measures, writes the folder `options.out`."""
    builders = [
        tfds.builder(f"avatars/{config}", data_dir=options.data_dir)
        for config in ("whole", *MEASURED)
    ]
    for builder in builders:
        builder.download_and_prepare()
    texts = Texts.build(vocabulary.read(builders[0].data_path))

    def load(config: str, split: str) -> Images:
        return Images.load(config, split, texts, data_dir=options.data_dir)

    validation, test = (
        {config: load(config, split) for config in MEASURED} for split in ("validation", "test")
    )
    run(load("whole", "train"), validation, test, texts=texts, options=options)


def run(
    train: Images,
    validation: dict[str, Images],
    test: dict[str, Images],
    *,
    texts: Texts,
    options: TrainOptions,
) -> None:
    """Trains, measures and writes.

    Args:
        train: entire drawings.
        validation: images of each config; they decide what is asked.
        test: the same, to report.
        texts: tables of questions and answers.
        options: settings.
    """
    model = BlipForQuestionAnswering(blip_config(options, texts), nnx.Rngs(options.seed))
    if options.init:
        huggingface.fill(model, options.init)
    options.out.mkdir(parents=True, exist_ok=True)
    texts.tokenizer.save(str(options.out / "tokenizer.json"))

    def check() -> None:
        few = {name: images.some(CHECKED) for name, images in validation.items()}
        accuracy = {
            name: measure(model, images, texts, sizes=(128,)) for name, images in few.items()
        }
        for name, kinds in accuracy.items():
            shares = {a: round(100 * row[128]) for a, row in kinds["what"].items()}
            print(f"{name}: {shares}", flush=True)
        write(model, report(accuracy), options.out)

    fit(model, partial(draw, train, texts, options), texts=texts, options=options, check=check)
    measured = measure_all(model, validation, texts)
    measured["test"] = {
        config: measure(model, images, texts, sizes=SIZES[-1:]) for config, images in test.items()
    }
    write(model, measured, options.out)
    (options.out / CHECKPOINT).unlink(missing_ok=True)
    print(table(measured))


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
    draw: Callable[..., Sample],
    *,
    texts: Texts,
    options: TrainOptions,
    check: Callable[[], None],
    losses: tuple[Callable[..., jax.Array], ...] = (tagging_loss, answer_loss),
) -> None:
    """Runs both phases and leaves the averaged parameters in `model`.

    Args:
        model: to train.
        draw: (step, asks: whether there are questions) -> batch.
        texts: tables of questions and answers.
        options: settings.
        check: is called every `options.every` updates of the second phase.
        losses: of each phase.
    """
    module = ModelAndTagger(model, Tagger(model.vision_model, texts, nnx.Rngs(options.seed + 1)))
    graph, params = nnx.split(module)
    total = options.pretrain_steps + options.steps
    optimizer = make_optimizer(options.learning_rate, total)
    state = (params, optimizer.init(params), jax.tree.map(jnp.copy, params))
    tag, answer = (make_step(graph, loss, optimizer) for loss in losses)
    path = options.out / CHECKPOINT
    first, state = restore(path, state) if path.exists() else (0, state)
    started, found = time.time(), []
    for count in range(first, total):
        is_first = count < options.pretrain_steps
        sample = draw(count, asks=not is_first)
        key = jax.random.fold_in(jax.random.key(options.seed), count)
        state, loss = (tag if is_first else answer)(state, sample, key=key, count=count)
        found.append(loss)
        if (count + 1) % 50 == 0:
            mean = np.mean(jax.device_get(found[-50:]))
            print(f"{count + 1}: loss {mean:.3f}, {time.time() - started:.0f} s", flush=True)
        if (count + 1) % options.every == 0:
            save(path, state, count + 1)
            if not is_first:
                nnx.update(module, jax.tree.map(jnp.copy, state[2]))
                check()
    nnx.update(module, state[2])


def draw(train: Images, texts: Texts, options: TrainOptions, count: int, *, asks: bool) -> Sample:
    """Returns the batch of a step, a function of the seed and the step."""
    rng = np.random.default_rng([options.seed, count])
    rare = options.rare if asks else 0.0
    frames = FrameOptions(options.varied, INPUT // options.patch_size, rare)
    pixels, warps, targets = sample_images(
        train, rng, count=options.batch_size, options=frames, names=texts.attributes
    )
    if asks:
        labels = np.asarray(targets["labels"])
        questions, answers = choose_questions(
            labels, texts, rng, what=options.questions, phrases=options.phrases
        )
        targets |= {"questions": questions, "answers": answers}
    return pixels, warps, targets


def make_optimizer(rate: float, steps: int) -> optax.GradientTransformation:
    """Returns AdamW whose rate rises, stays, and falls to 0 in the last COOL_DOWN of the steps.

    Until then it does not depend on the number of steps, so a training can be made longer.
    """
    last = round(COOL_DOWN * steps)
    schedule = optax.join_schedules(
        [
            optax.linear_schedule(0.0, rate, WARM_UP),
            optax.constant_schedule(rate),
            optax.linear_schedule(rate, 0.0, max(last, 1)),
        ],
        [WARM_UP, max(steps - last, WARM_UP)],
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.03)
    )


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
        state: TrainState, batch: Sample, *, key: jax.Array, count: int
    ) -> tuple[TrainState, jax.Array]:
        params, opt_state, averaged = state
        pixels, (rows, columns), targets = batch
        images = add_noise(warp(pixels, rows, columns), key)
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
