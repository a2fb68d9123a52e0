"""Puts an experiment together from its configuration: data, mesh, modules, schedule."""

import dataclasses

import jax
import tokenizers
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import dataset as dataset_lib
from rbjax.data.dataset import Split
from rbjax.data.image_cache import Views
from rbjax.data.latent_cache import NOTHING, Stored
from rbjax.data.loader import Examples
from rbjax.diffusion import sampler
from rbjax.diffusion.guidance import Sampling
from rbjax.diffusion.schedule import Schedule
from rbjax.experiment.config_checks import check, check_tasks
from rbjax.interop import stable_diffusion
from rbjax.models.pipeline import abstract_pipeline
from rbjax.parallel import mesh as meshes
from rbjax.text import tokenizer as tokenizer_lib
from tfds_retribooru import vocabulary


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What training and evaluation share.

    Attributes:
        config: of the experiment.
        mesh: of the devices.
        builder: of the data set.
        tokenizer: of prompts and concept words.
        graphdef: of the pipeline; parameters are elsewhere.
        schedule: of the noise.
    """

    config: ConfigDict
    mesh: jax.sharding.Mesh
    builder: object
    tokenizer: tokenizers.Tokenizer
    graphdef: nnx.GraphDef
    schedule: Schedule

    def open(self, name: str) -> Split:
        """A split of the data set."""
        return dataset_lib.open_split(self.builder, name)

    def open_training(self) -> Split:
        """The split `train`.

        Raises:
            ValueError: its records cannot serve a task that is wanted.
        """
        split = self.open("train")
        check_tasks(self.config.data, split)
        return split

    def examples(self, split: Split, stored: Stored = NOTHING) -> Examples:
        """What makes the split's examples, from what is stored of it where there is something."""
        data = self.config.data
        views = Views(split, data.size, data.view, data.cache)
        return Examples(split, views, self.tokenizer, data, stored)


def resolve(config: ConfigDict) -> ConfigDict:
    """The whole configuration: checked, and with what `config.pretrained` says written into it.

    Raises:
        ValueError, FileNotFoundError: for settings that cannot work; the message names the field.
    """
    check(config)
    return stable_diffusion.resolve(config) if config.pretrained else config


def setup(config: ConfigDict) -> Experiment:
    """Builds the data set if needed, and everything but the parameters.

    Args:
        config: as `resolve` returns it.

    Raises:
        ValueError, FileNotFoundError: for settings that cannot work; the message names the field.
    """
    check(config)
    mesh = meshes.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    meshes.check_batch(mesh, config.batch_size, parts=config.train.accumulate)
    meshes.check_batch(mesh, config.eval.batch_size, "config.eval.batch_size")
    _warn_of_bfloat16(config)
    sampling = Sampling.from_config(config.sampling)
    schedule = Schedule(**dict(config.noise_schedule))
    sampler.plan(schedule, sampling.steps, sampling.method)  # raises for what cannot work
    builder = dataset_lib.prepare(config.data.dataset, config.data_dir)
    dataset_lib.check_split(builder, config.eval.split)
    tokenizer = _tokenizer(config, builder)
    graphdef = nnx.split(abstract_pipeline(config, tokenizer))[0]
    return Experiment(config, mesh, builder, tokenizer, graphdef, schedule)


def _warn_of_bfloat16(config: ConfigDict) -> None:
    """XLA for CPUs (of jax 0.10 and 0.11) ends the process on some training steps in bfloat16."""
    parts = [name for name in ("unet", "vae") if config.model[name].get("dtype") == "bfloat16"]
    if parts and jax.default_backend() == "cpu":
        flags = " ".join(f"--config.model.{name}.dtype=float32" for name in parts)
        logging.warning("bfloat16 on CPUs is slow and may end the process; use %s", flags)


def _tokenizer(config: ConfigDict, builder) -> tokenizers.Tokenizer:
    """That of the pretrained text encoder, or one with the data set's words."""
    if config.pretrained:
        return stable_diffusion.tokenizer(config)
    return tokenizer_lib.word_tokenizer(vocabulary.read(builder.data_path))
