"""The programs of an experiment from shapes alone, for devices that need not be there.

Axes: B batch, R references, T tokens of a prompt, Tc of a concept word.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Collection as Metrics
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import dataset as dataset_lib
from rbjax.data import latent_cache, variation
from rbjax.diffusion.guidance import Sampling, make_generate
from rbjax.diffusion.schedule import Schedule
from rbjax.experiment import added_fields, config_checks
from rbjax.experiment import setup as setup_lib
from rbjax.experiment.setup import Experiment
from rbjax.interop import stable_diffusion
from rbjax.interop.stable_diffusion import Parts
from rbjax.models.autoencoder_kl import AutoencoderKLConfig
from rbjax.models.batch import Batch
from rbjax.models.clip_text import CLIPTextConfig
from rbjax.models.params import Tree
from rbjax.models.pipeline import abstract_pipeline
from rbjax.models.unet_config import UNetConfig
from rbjax.parallel import mesh as meshes
from rbjax.text import prompts
from rbjax.text.tokenizer import word_tokenizer
from rbjax.train import loop, precompute_latents
from rbjax.train import state as states
from rbjax.train.state import TrainState
from rbjax.train.step import TrainMetrics

T = TypeVar("T")
SD15 = Parts(  # sizes of Stable Diffusion 1.5
    UNetConfig(),
    AutoencoderKLConfig(),
    CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12),
)


def resolve(config: ConfigDict) -> ConfigDict:
    """Returns the configuration with the sizes of its folder; of SD 1.5 where it names none."""
    if config.pretrained or config.model.patch:
        return setup_lib.resolve(config).config
    config = added_fields.complete(config)
    config_checks.check_values(config)
    resolved = stable_diffusion.with_parts(config, SD15)
    own = config.noise_schedule
    schedule = {"betas": "scaled_linear", "prediction_type": "epsilon"}
    chosen = {name: value for name, value in own.items() if value != ""}
    with resolved.unlocked(), resolved.ignore_type():
        resolved.noise_schedule = ConfigDict(schedule | chosen)
    return resolved


def make_experiment(config: ConfigDict, devices: Sequence[jax.Device]) -> Experiment:
    """Puts an experiment together for devices to compile for.

    Args:
        config: of the experiment. Records and weights are not read; a data set is built only where
            its words make the tokenizer.
        devices: all that the mesh may use.

    Raises:
        ValueError, FileNotFoundError: for settings that do not work or fit; they name the field.
    """
    config = resolve(config)
    mesh = meshes.make_mesh(**config.mesh, devices=devices)
    config_checks.check_batches(config, mesh)
    builder, tokenizer = None, word_tokenizer({"tags": {}})  # a folder's sizes are in the config
    if config.model.patch:
        builder = dataset_lib.prepare(config.data.dataset, config.data_dir)
        spaced = config.data.underscores_as_spaces
        tokenizer = dataset_lib.word_tokenizer(builder, underscores_as_spaces=spaced)
    return Experiment(
        config=config,
        pretrained=None,
        mesh=mesh,
        builder=builder,
        tokenizer=tokenizer,
        graphdef=nnx.split(abstract_pipeline(config, tokenizer))[0],
        schedule=Schedule(**dict(config.noise_schedule)),
        sampling=Sampling.from_config(config.sampling),
    )


def lower_training(
    exp: Experiment, stored: Iterable[str] = latent_cache.PARTS
) -> jax.stages.Lowered:
    """Traces the update of the training loop; `stored` as of `training_arguments`."""
    with jax.sharding.use_abstract_mesh(exp.mesh.abstract_mesh):
        arguments = training_arguments(exp, stored)
        return loop.jit_update(exp, arguments[0]).lower(*arguments)


def training_arguments(
    exp: Experiment, stored: Iterable[str] = latent_cache.PARTS
) -> tuple[TrainState, Metrics, Batch, Tree | None]:
    """Returns shapes and shardings of what the update takes.

    Args:
        exp: the experiment.
        stored: of latent_cache.PARTS, what it finds stored, where it can be and is to be read.
    """
    metrics = _place(jax.eval_shape(TrainMetrics.empty), meshes.replicated(exp.mesh))
    state = states.abstract_state(exp)
    modules = {part: encoder.module for part, encoder in precompute_latents.ENCODERS.items()}
    constant = [part for part in stored if modules[part] not in state.trained]
    found = constant if exp.config.data.cached_latents else []
    taught = exp.config.train.target == "base"
    batch = abstract_batch(exp, exp.config.batch_size, stored=found, with_all_tags=taught)
    if not taught:
        return state, metrics, batch, None
    params = state.averaged
    unet = {"unet": params["retrinet"]["unet"]}
    return state, metrics, batch, {"text_encoder": params["text_encoder"], "retrinet": unet}


def lower_sampling(exp: Experiment) -> jax.stages.Lowered:
    """Traces the generation of an evaluation's batch."""
    generate = make_generate(
        exp.graphdef,
        schedule=exp.schedule,
        sampling=exp.sampling,
        empty_prompt=jnp.zeros(exp.config.data.max_tokens, jnp.int32),
    )
    with jax.sharding.use_abstract_mesh(exp.mesh.abstract_mesh):
        jitted = jax.jit(generate, out_shardings=meshes.replicated(exp.mesh))
        return jitted.lower(*sampling_arguments(exp))


def sampling_arguments(exp: Experiment) -> tuple[Tree, Batch, jax.ShapeDtypeStruct]:
    """Returns shapes and shardings of what the generation takes."""
    count, sharding = exp.config.eval.batch_size, meshes.batch_sharding(exp.mesh)
    seeds = jax.ShapeDtypeStruct((count,), np.uint32, sharding=sharding)
    return states.abstract_state(exp).averaged, abstract_batch(exp, count), seeds


class Program(NamedTuple):
    """What is compiled.

    Attributes:
        lower: traces it.
        arguments: returns shapes and shardings of what it takes.
    """

    lower: Callable[[Experiment], jax.stages.Lowered]
    arguments: Callable[[Experiment], tuple[Any, ...]]


def programs(stored: Iterable[str] = latent_cache.PARTS) -> dict[str, Program]:
    """Returns the two programs by name; `stored` as of `training_arguments`."""
    lower = functools.partial(lower_training, stored=stored)
    arguments = functools.partial(training_arguments, stored=stored)
    sampling = Program(lower_sampling, sampling_arguments)
    return {"train": Program(lower, arguments), "sample": sampling}


def abstract_batch(
    exp: Experiment, size: int, *, stored: Collection[str] = (), with_all_tags: bool = False
) -> Batch:
    """Returns the shapes of a batch; `stored`: parts of it of which a cache has what it can."""
    data = exp.config.data
    pixels, count = (data.size, data.size, 3), data.faces + data.clothes
    length = prompts.concept_length(exp.tokenizer)

    def make() -> Batch:
        batch = Batch(
            target=jnp.zeros((size, *pixels), jnp.uint8),
            references=jnp.zeros((size, count, *pixels), jnp.uint8),
            prompt=jnp.zeros((size, data.max_tokens), jnp.int32),
            concepts=jnp.zeros((size, count, length), jnp.int32),
            reference_mask=jnp.zeros((size, count), bool),
            index=jnp.zeros(size, jnp.int32),
            all_tags=jnp.zeros((size, data.max_tokens), jnp.int32) if with_all_tags else None,
        )
        return _stored(exp, batch, stored) if stored else batch

    return _place(jax.eval_shape(make), meshes.batch_sharding(exp.mesh))


def _stored(exp: Experiment, batch: Batch, parts: Collection[str]) -> Batch:
    """Replaces images and token ids by what precompute_latents stores of them, float16."""
    pipeline = abstract_pipeline(exp.config, exp.tokenizer)
    encoded = nnx.eval_shape(lambda p, b: p.encode(b), pipeline, batch)
    names: list[str] = []
    if "moments" in parts:
        *shape, channels = encoded.latents.shape
        moments = jnp.zeros((*shape, 2 * channels), jnp.float16)  # mean and log variance
        batch = dataclasses.replace(batch, target=moments)
        names += [] if variation.live_fields(exp.config.data) else ["references"]
    if "text" in parts and not variation.varies_prompts(exp.config.data):
        names += ["prompt", "concepts"]
    found = {name: jnp.zeros(getattr(encoded, name).shape, jnp.float16) for name in names}
    return dataclasses.replace(batch, **found)


def _place(tree: T, sharding: jax.sharding.Sharding) -> T:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
