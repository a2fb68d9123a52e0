"""Looks into a batch whose update was not finite: loss and gradient of each of its examples."""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from rbjax.experiment import setup as setup_lib
from rbjax.experiment import workdir as workdir_lib
from rbjax.experiment.setup import Experiment
from rbjax.models.batch import Batch
from rbjax.models.params import Tree, merge, nnx_state
from rbjax.storage import StoredPath
from rbjax.train import bad_updates, checkpoints, teachers
from rbjax.train import state as states
from rbjax.train.state import TrainState
from rbjax.train.step import example_losses


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What the parameters of the newest checkpoint make of the batch.

    Attributes:
        step: of the batch's update.
        checkpoint: step of the checkpoint.
        records: ids of the targets.
        losses: float32 [B].
        grad_norms: float32 [B], global norms of the gradient of each example's loss.
    """

    step: int
    checkpoint: int
    records: list[str]
    losses: np.ndarray
    grad_norms: np.ndarray

    @property
    def bad(self) -> np.ndarray:
        """The examples whose loss or gradient is not finite: bool [B]."""
        return ~np.isfinite(self.losses + self.grad_norms)


def replay(workdir: StoredPath, pretrained: str = "") -> Replayed:
    """Computes the batch that ended a run again, with the noise that it had.

    Args:
        workdir: of the run.
        pretrained: where the folder of `config.pretrained` lies now; "" = where it was.

    Raises:
        FileNotFoundError, ValueError: the directory holds no run that ended so.
    """
    found = bad_updates.load(workdir)
    config = checkpoints.read_config(workdir)
    config.pretrained = pretrained or config.pretrained
    resolved = setup_lib.resolve(_for_these_devices(config))
    exp = setup_lib.setup(resolved, workdir_lib.read_tokenizer(workdir))
    if exp.config.train.target == "base":
        workdir_lib.check_pretrained(exp.pretrained, workdir)
    with jax.set_mesh(exp.mesh):
        state = checkpoints.restore_state(workdir, states.abstract_state(exp))
        losses, grad_norms = _of_examples(exp, state, found)
    return Replayed(found.step, int(state.step), found.records, losses, grad_norms)


def _for_these_devices(config: ConfigDict) -> ConfigDict:
    """Splits the parameters as the run did, or not at all where there are fewer devices."""
    parts = config.mesh.fsdp * config.mesh.tensor
    config.mesh.data = 1  # examples are computed one after the other
    if parts > jax.device_count():
        config.mesh.fsdp = config.mesh.tensor = 1
    config.eval.batch_size = config.batch_size  # divides over the mesh; nothing is generated
    return config


def _of_examples(
    exp: Experiment, state: TrainState, found: bad_updates.BadBatch
) -> tuple[np.ndarray, np.ndarray]:
    """Returns losses and gradient norms, each [B]; parts and noise are those of `make_update`."""
    count = exp.config.train.accumulate
    step_key = jax.random.fold_in(jax.random.key(exp.config.seed), found.step - 1)
    values = np.zeros((2, len(found.records)), np.float32)
    teacher = teachers.load(exp)

    @jax.jit
    def one(
        state: TrainState, teacher: Tree | None, part: Batch, key: jax.Array, i: jax.Array
    ) -> jax.Array:
        # Example i in all places: 0 times the NaN of another one would be NaN in its gradient too.
        part = cast(Batch, jax.tree.map(lambda x: jnp.broadcast_to(x[i], x.shape), part))

        def loss_of(trained: Tree) -> jax.Array:
            pipeline = nnx.merge(exp.graphdef, nnx_state(merge(trained, state.frozen)))
            options = {"schedule": exp.schedule, "weighting": exp.config.train.weighting}
            base = teachers.of(exp.graphdef, merge(trained, state.frozen), teacher)
            return example_losses(pipeline, part, key, teacher=base, **options)[i]

        loss, grads = jax.value_and_grad(loss_of)(state.trained)
        return jnp.stack([loss, optax.tree.norm(grads)])

    for number in range(count):
        part = cast(Batch, jax.tree.map(lambda x, n=number: jnp.asarray(x[n::count]), found.batch))
        key = jax.random.fold_in(step_key, number) if count > 1 else step_key
        for i in range(len(part.reference_mask)):
            values[:, number + i * count] = one(state, teacher, part, key, jnp.asarray(i))
    return values[0], values[1]
