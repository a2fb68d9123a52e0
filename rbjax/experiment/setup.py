"""Puts an experiment together from its configuration: data, mesh, modules, schedule.

`resolve` needs no data set and no device: what it refuses is refused at once. `setup` takes what it
returns and builds the data set.
"""

import dataclasses

import jax
import numpy as np
import tensorflow_datasets as tfds
import tokenizers
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import buckets, variation
from rbjax.data import dataset as dataset_lib
from rbjax.data.dataset import Split
from rbjax.data.image_cache import ConceptCrops
from rbjax.data.latent_cache import CachedLatents
from rbjax.data.loader import Examples
from rbjax.diffusion import sampler
from rbjax.diffusion.guidance import Sampling
from rbjax.diffusion.schedule import Schedule
from rbjax.experiment import added_fields, config_checks
from rbjax.interop import stable_diffusion
from rbjax.interop.stable_diffusion import StableDiffusion
from rbjax.models.pipeline import abstract_pipeline
from rbjax.parallel import mesh as mesh_lib


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A configuration that is checked and complete.

    Attributes:
        config: of the experiment; with `pretrained` it has that folder's settings.
        pretrained: what `config.pretrained` names; None = from scratch.
    """

    config: ConfigDict
    pretrained: StableDiffusion | None


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What training and evaluation share.

    Attributes:
        config: of the experiment, checked and complete.
        pretrained: where the parameters start; None = from scratch.
        mesh: of the devices.
        builder: of the data set.
        tokenizer: of prompts and concept words.
        graphdef: of the pipeline; parameters are elsewhere.
        schedule: of the noise.
        sampling: how images are generated.
    """

    config: ConfigDict
    pretrained: StableDiffusion | None
    mesh: jax.sharding.Mesh
    builder: tfds.core.DatasetBuilder
    tokenizer: tokenizers.Tokenizer
    graphdef: nnx.GraphDef
    schedule: Schedule
    sampling: Sampling

    def open(self, name: str) -> Split:
        """Opens a split of the data set."""
        return dataset_lib.open_split(self.builder, name)

    def open_training(self) -> Split:
        """Opens the split `train`.

        Raises:
            ValueError: no record of it can serve a task of the configuration.
        """
        split = self.open("train")
        config_checks.check_tasks(self.config.data, split)
        return split

    def target_shapes(self, split: Split) -> np.ndarray | None:
        """Returns width and height of each target, int [N, 2]; None without buckets."""
        data = self.config.data
        if not data.bucket_reso_steps:
            return None
        least = self.config.batch_size if split.name == "train" else 1
        return buckets.assign(split.sizes, buckets.shapes(data), least=least)

    def examples(
        self, split: Split, cached: CachedLatents | None = None, *, training: bool = False
    ) -> Examples:
        """Returns what builds the split's examples.

        Args:
            split: of the data set.
            cached: latents and text states to read; None = none.
            training: whether references have the changes of their records, if there are such, and
                examples what a teacher reads.
        """
        data = self.config.data
        crops = ConceptCrops(
            split,
            size=data.size,
            view=data.view,
            cache=data.cache,
            blank=data.blank_background >= 0.5,
            rates=variation.change_rates(data) if training and data.fixed_changes else None,
            shapes=self.target_shapes(split),
        )
        return Examples(
            split,
            crops,
            self.tokenizer,
            data,
            cached or CachedLatents(),
            with_all_tags=training and self.config.train.target == "base",
        )


def resolve(config: ConfigDict) -> Resolved:
    """Checks a configuration and completes it with the settings of `config.pretrained`.

    Raises:
        ValueError, FileNotFoundError: for settings that cannot work; the message names the field.
    """
    config = added_fields.complete(config)
    config_checks.check(config)
    if not config.pretrained:
        config_checks.check_bucket_steps(config)
        return Resolved(config, pretrained=None)
    pretrained = stable_diffusion.read(config)
    config_checks.check_bucket_steps(pretrained.config)
    return Resolved(pretrained.config, pretrained)


def setup(resolved: Resolved, words: tokenizers.Tokenizer | None = None) -> Experiment:
    """Builds the data set if needed, and everything but the parameters.

    Args:
        resolved: by `resolve`.
        words: the tokenizer of a run that goes on from scratch; None makes one of the data set.

    Raises:
        ValueError, FileNotFoundError: for settings that do not fit the devices or the data set, or
            cannot be sampled with; the message names the field.
    """
    config, pretrained = resolved.config, resolved.pretrained
    mesh = mesh_lib.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    config_checks.check_batches(config, mesh)
    _warn_of_bfloat16(config)
    sampling = Sampling.from_config(config.sampling)
    schedule = Schedule(**dict(config.noise_schedule))
    sampler.plan(schedule, sampling.steps, sampling.method)  # raises for what cannot work
    builder = dataset_lib.prepare(config.data.dataset, config.data_dir)
    dataset_lib.check_split(builder, config.eval.split)
    spaced = config.data.underscores_as_spaces
    tokenizer = (
        pretrained.tokenizer
        if pretrained
        else words or dataset_lib.word_tokenizer(builder, underscores_as_spaces=spaced)
    )
    graphdef = nnx.split(abstract_pipeline(config, tokenizer))[0]
    return Experiment(
        config=config,
        pretrained=pretrained,
        mesh=mesh,
        builder=builder,
        tokenizer=tokenizer,
        graphdef=graphdef,
        schedule=schedule,
        sampling=sampling,
    )


def _warn_of_bfloat16(config: ConfigDict) -> None:
    """XLA for CPUs (of jax 0.10 and 0.11) ends the process on some training steps in bfloat16."""
    parts = [name for name in ("unet", "vae") if config.model[name].get("dtype") == "bfloat16"]
    if parts and jax.default_backend() == "cpu":
        flags = " ".join(f"--config.model.{name}.dtype=float32" for name in parts)
        logging.warning("bfloat16 on CPUs is slow and may end the process; use %s", flags)
