"""Orbax checkpoints: the training state together with the data iterator's state."""

import json
import pathlib
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
import tokenizers
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import dataset as dataset_lib
from rbjax.interop.saved_model import Model
from rbjax.models.params import Tree, merge, split_trained
from rbjax.models.pipeline import abstract_pipeline
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.train.state import TrainState

TOKENIZER = "tokenizer.json"


def manager(workdir: pathlib.Path) -> ocp.CheckpointManager:
    """Opens `workdir/checkpoints`, which keeps the newest two."""
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    return ocp.CheckpointManager((workdir / "checkpoints").resolve(), options=options)


def save(
    checkpoints: ocp.CheckpointManager, step: int, *, state: TrainState, data: grain.DatasetIterator
) -> None:
    """Saves the state and the iterator's state, unless there is a checkpoint of this step."""
    if step == checkpoints.latest_step():
        return
    items = {
        "state": ocp.args.StandardSave(state),
        _data_item(): ocp.args.JsonSave(data.get_state()),
    }
    checkpoints.save(step, args=ocp.args.Composite(**items), force=True)


def restore(
    checkpoints: ocp.CheckpointManager,
    *,
    state: TrainState,
    shardings: TrainState,
    data: grain.DatasetIterator,
) -> TrainState:
    """Restores the newest checkpoint onto today's mesh, and sets the iterator.

    Args:
        checkpoints: see `manager`.
        state: of step 0; returned where there is no checkpoint.
        shardings: of the state.
        data: set to where the checkpoint's run stopped.

    Raises:
        ValueError: the checkpoint does not fit the state; Orbax names the arrays.
    """
    step = checkpoints.latest_step()
    if step is None:
        return state
    abstract = jax.tree.map(_abstract_array, state, shardings)
    items = {"state": ocp.args.StandardRestore(abstract), _data_item(): ocp.args.JsonRestore()}
    restored = checkpoints.restore(step, args=ocp.args.Composite(**items))
    data.set_state(restored[_data_item()])
    return restored["state"]


def _data_item() -> str:
    """Returns the name of the iterator's state: each process has its own."""
    return f"data-{jax.process_index()}"


def _abstract_array(array: jax.Array, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


def load_model(workdir: pathlib.Path, dtype: str | None = None) -> Model:
    """Reads the newest checkpoint of a run: its averages and its frozen parameters.

    Args:
        workdir: of the run.
        dtype: of the computation; None = as in the training.

    Raises:
        FileNotFoundError: there is no configuration or no checkpoint.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {workdir} is not the workdir of a training")
    config = ConfigDict(_tuples(json.loads(path.read_text())))
    for part in ("unet", "vae", "text"):
        if dtype and config.model.get(part):  # an empty `vae` means BlockDCT: it has to stay empty
            config.model[part].dtype = dtype
    tokenizer = _tokenizer(workdir, config)
    graphdef, abstract = nnx.split(abstract_pipeline(config, tokenizer), nnx.Param)
    params = _restore_averages(workdir, nnx.to_pure_dict(abstract), config.train)
    return Model(config, tokenizer, graphdef, params)


def _restore_averages(workdir: pathlib.Path, abstract: Tree, config: ConfigDict) -> Tree:
    """Restores all parameters on one device; the optimiser's moments are not read."""
    with ocp.CheckpointManager((workdir / "checkpoints").resolve()) as manager:
        step = manager.latest_step()
    if step is None:
        raise FileNotFoundError(f"{workdir / 'checkpoints'} holds no finished checkpoint")
    trained, frozen = split_trained(abstract, list(config.trained), list(config.frozen))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    item = {"ema": trained, "frozen": frozen}
    item = jax.tree.map(lambda leaf: _abstract_array(leaf, device), item)
    args = ocp.args.PyTreeRestore(
        item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = (workdir / "checkpoints" / str(step) / "state").resolve()
        restored = checkpointer.restore(path, args=args)
    return merge(restored["ema"], restored["frozen"])


def _tokenizer(workdir: pathlib.Path, config: ConfigDict) -> tokenizers.Tokenizer:
    """Reads the run's tokenizer; runs without the file used the words of their data set."""
    path = workdir / TOKENIZER
    if path.is_file():
        return tokenizer_lib.read(path)
    builder = dataset_lib.prepare(config.data.dataset, config.data_dir)
    return dataset_lib.word_tokenizer(builder)


def _tuples(value: Any) -> Any:
    """Returns a value of JSON with tuples in place of lists, as they are in the configuration."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
