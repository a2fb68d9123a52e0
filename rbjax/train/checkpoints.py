"""Orbax checkpoints: the training state and the data iterator's state, together."""

import pathlib

import grain
import jax
import orbax.checkpoint as ocp

from rbjax.train.state import TrainState


def manager(workdir: pathlib.Path, every: int) -> ocp.CheckpointManager:
    """Keeps the newest two checkpoints under `workdir/checkpoints`."""
    options = ocp.CheckpointManagerOptions(
        save_interval_steps=every, max_to_keep=2, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager((workdir / "checkpoints").resolve(), options=options)


def save(
    checkpoints: ocp.CheckpointManager,
    step: int,
    state: TrainState,
    data: grain.DatasetIterator,
    force: bool = False,
) -> None:
    """Saves if the step is due, or `force`."""
    if step == checkpoints.latest_step():
        return
    items = {
        "state": ocp.args.StandardSave(state),
        f"data-{jax.process_index()}": ocp.args.JsonSave(data.get_state()),
    }
    checkpoints.save(step, args=ocp.args.Composite(**items), force=force)


def restore(
    checkpoints: ocp.CheckpointManager, state: TrainState, shardings, data: grain.DatasetIterator
) -> TrainState:
    """Restores the newest checkpoint, onto today's mesh, and sets the iterator; or returns `state`.

    Raises:
      ValueError: the checkpoint does not fit the state; Orbax names the arrays.
    """
    step = checkpoints.latest_step()
    if step is None:
        return state
    name = f"data-{jax.process_index()}"
    items = {"state": ocp.args.StandardRestore(abstract(state, shardings))}
    restored = checkpoints.restore(
        step, args=ocp.args.Composite(**items, **{name: ocp.args.JsonRestore()})
    )
    data.set_state(restored[name])
    return restored["state"]


def abstract(state: TrainState, shardings):
    """Shapes, types and places of a state."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
    )
