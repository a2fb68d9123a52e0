"""Puts an experiment together from its configuration: data, mesh, modules, schedule."""

import contextlib
import dataclasses
import fcntl
import json
import operator
import pathlib
from collections.abc import Iterator

import jax
import numpy as np
import tokenizers
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import prompts, source
from rbjax.data.latent_cache import NOTHING, Stored
from rbjax.data.loader import Examples
from rbjax.data.references import TASKS
from rbjax.data.source import Split
from rbjax.data.transforms import VIEWS
from rbjax.data.views import Views
from rbjax.diffusion import sampler
from rbjax.diffusion.loss import WEIGHTINGS
from rbjax.diffusion.schedule import Schedule
from rbjax.guidance import Sampling
from rbjax.models.abstract import shapes
from rbjax.models.pipeline import Pipeline
from rbjax.parallel import mesh as meshes
from rbjax.train import pretrained
from rbjax.train import state as states
from tfds_retribooru import whole

# Fields that may differ between two runs in one working directory.
CHANGEABLE = (
    *("total_steps", "data_dir", "mesh", "eval", "sampling", "sample_images"),
    *(f"{name}_every" for name in ("log", "checkpoint", "sample", "eval")),
    *("data.cached_latents", "data.threads", "model.unet.remat", "train.accumulate"),
)
CHOICES = {"data.prompt_tags": ("free", "all"), "data.view": VIEWS, "train.weighting": WEIGHTINGS}
COUNTS = (  # fields that must be at least 1
    *("total_steps", "sample_images"),
    *("eval.characters", "eval.prompts", "eval.periodic_characters"),
    *(f"{name}_every" for name in ("log", "checkpoint", "sample", "eval")),
)


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
        return source.open_split(self.builder, name)

    def open_training(self) -> Split:
        """The split `train`.

        Raises:
          ValueError: its records cannot serve a task that is wanted.
        """
        split = self.open("train")
        _check_tasks(self.config.data, split)
        return split

    def examples(self, split: Split, stored: Stored = NOTHING) -> Examples:
        """What makes the split's examples, from what is stored of it where there is something."""
        data = self.config.data
        views = Views(split, data.size, data.view, data.cache)
        return Examples(split, views, self.tokenizer, data, stored)


def _check_tasks(data: ConfigDict, split: Split) -> None:
    """Raises ValueError for a task for which no example would have a reference."""
    clusters, reasons = split.clusters, {}
    if not len(split.boxed.order):
        reasons["composition"] = "has a face box, so none shows a face or clothes"
    if np.diff(clusters.character_start).max() < 2:
        reasons["same_identity"] = "shows a character that another one shows"
    if np.diff(clusters.outfit_start).max() < 2:
        reasons["same_outfit"] = "shows an outfit that another one shows"
    for task, reason in reasons.items():
        if data.tasks.get(task, 0) > 0:
            raise ValueError(
                f"config.data.tasks.{task}={data.tasks[task]}: no record of {data.dataset} "
                f"{reason}. Set it to 0 and another task to 1."
            )


def check(config: ConfigDict) -> None:
    """Raises ValueError for settings that cannot work, naming the field."""
    data = config.data
    if min(data.faces, data.clothes) < 0 or data.faces + data.clothes < 1:
        raise ValueError(
            f"config.data.faces={data.faces} and config.data.clothes={data.clothes}: RetriNet "
            "needs at least one reference; set one of them to 1 or more."
        )
    unknown = set(data.tasks) - set(TASKS)
    if unknown or sum(data.tasks.values()) <= 0 or min(data.tasks.values()) < 0:
        raise ValueError(
            f"config.data.tasks={dict(data.tasks)}: give weights of at least 0, not all 0, to "
            f"{', '.join(TASKS)}."
        )
    if data.drop_prompt + data.drop_references + data.drop_both > 1:
        raise ValueError("config.data: drop_prompt + drop_references + drop_both is more than 1")
    _check_values(config)
    if not config.pretrained and not config.model.patch:
        raise ValueError(
            "config.pretrained is empty, and config.model describes no model of its own: give a "
            "folder of Stable Diffusion in diffusers' format, --config.pretrained=DIR"
        )


def _check_values(config: ConfigDict) -> None:
    """Raises ValueError for a field of CHOICES or COUNTS that has no such value."""
    for field, choices in CHOICES.items():
        value = operator.attrgetter(field)(config)
        if value not in choices:
            raise ValueError(f"config.{field}={value!r}: use {' or '.join(map(repr, choices))}")
    for field in COUNTS:
        value = operator.attrgetter(field)(config)
        if value < 1:
            hint = "; a number above total_steps turns it off" if field.endswith("_every") else ""
            raise ValueError(f"config.{field}={value}: must be at least 1{hint}")


def resolve(config: ConfigDict) -> ConfigDict:
    """The whole configuration: checked, and with what `config.pretrained` says written into it.

    Raises:
      ValueError, FileNotFoundError: for settings that cannot work; the message names the field.
    """
    check(config)
    return pretrained.resolve(config) if config.pretrained else config


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
    builder = source.prepare(config.data.dataset, config.data_dir)
    source.check_split(builder, config.eval.split)
    tokenizer = _tokenizer(config, builder)
    graphdef = nnx.split(shapes(lambda rngs: _pipeline(config, tokenizer, rngs)))[0]
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
        return pretrained.tokenizer(config)
    vocabulary = json.loads((pathlib.Path(builder.data_dir) / "vocabulary.json").read_text())
    return prompts.word_tokenizer(vocabulary)


def create_state(experiment: Experiment):
    """A state at step 0 and its shardings, initialised or read straight into its shards."""
    config, mesh = experiment.config, experiment.mesh
    if config.pretrained:
        params = pretrained.load_params(config, mesh)
        return states.start(params, config.train, config.total_steps, mesh)

    def make_params() -> states.Tree:
        pipeline = _pipeline(config, experiment.tokenizer, nnx.Rngs(config.seed))
        return nnx.to_pure_dict(nnx.state(pipeline, nnx.Param))

    return states.create(make_params, config.train, config.total_steps, mesh)


def _pipeline(config: ConfigDict, tokenizer: tokenizers.Tokenizer, rngs: nnx.Rngs) -> Pipeline:
    return Pipeline(config.model, tokenizer.get_vocab_size(), config.data.max_tokens, rngs)


def check_workdir(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Makes the working directory, and compares the configuration of its checkpoints with this one.

    Raises:
      ValueError: the directory belongs to another configuration; it lists the fields.
      PermissionError: it cannot be written.
    """
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise PermissionError(
            f"cannot write to --workdir={workdir} ({error.strerror}): choose another directory"
        ) from error
    saved = any(p.name.isdigit() for p in (workdir / "checkpoints").glob("*"))
    if path.exists() and saved:  # a run that ended before (out of memory, say) leaves nothing
        _compare(json.loads(path.read_text()), json.loads(config.to_json()), workdir)


@contextlib.contextmanager
def alone(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other runs out of a working directory, until the block or the process ends.

    Raises:
      ValueError: another run holds it.
    """
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"--workdir={workdir} is in use by another run") from error
        except OSError as error:  # some network file systems know no locks
            logging.warning("%s cannot be locked: let no second run use it (%s)", workdir, error)
        yield


def keep_config(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes the configuration where `check_workdir` looks for it, once it is known to work."""
    write_whole(workdir / "config.json", config.to_json(indent=1))


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file: a run that is killed leaves the old one or the new one, never a part."""
    with whole.written(path) as partial:
        partial.write_text(text)


def _compare(old: dict, new: dict, workdir: pathlib.Path) -> None:
    before, after = _flatten(old), _flatten(new)
    different = [
        f"  {key}: {before.get(key)!r} there, {after.get(key)!r} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and not {key, key.split(".")[0]}.intersection(CHANGEABLE)
    ]
    if different:
        raise ValueError(
            f"--workdir={workdir} holds a run of another configuration:\n"
            + "\n".join(different)
            + "\nUse another --workdir, or the same configuration."
        )


def _flatten(tree: dict, prefix: str = "") -> dict:
    items: dict = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        items |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return items
