"""Orbax checkpoints: the training state together with the data iterator's state."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grain
import jax
import orbax.checkpoint as ocp
import tokenizers
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import dataset as dataset_lib
from rbjax.interop.saved_model import Model
from rbjax.models.params import Tree, merge, split_trained
from rbjax.models.pipeline import abstract_pipeline
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.train import checkpoint_files
from rbjax.train.state import TrainState

FOLDER = "checkpoints"
TOKENIZER = "tokenizer.json"
T = TypeVar("T")


def save(
    workdir: pathlib.Path, step: int, *, state: TrainState, data: grain.DatasetIterator
) -> None:
    """Saves the state and the iterator's state, unless there is a checkpoint of this step.

    The newest two are kept.

    Raises:
        OSError: what was saved cannot be read back.
    """
    folder = workdir / FOLDER
    if step in checkpoint_files.steps(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    items = {
        "state": ocp.args.StandardSave(state),
        _data_item(): ocp.args.JsonSave(data.get_state()),
    }
    with _manager(folder) as manager:
        manager.save(step, args=ocp.args.Composite(**items), force=True)
        _check_saved(manager, step, state, folder)
    if jax.process_index() == 0:
        checkpoint_files.write_checksums(folder / str(step))


def restore(
    workdir: pathlib.Path, *, abstract: TrainState, data: grain.DatasetIterator
) -> TrainState | None:
    """Restores the newest checkpoint that is not damaged onto today's mesh, and sets the iterator.

    Args:
        workdir: of the run.
        abstract: shapes, dtypes and shardings of the state.
        data: set to where the checkpoint's run stopped.

    Returns:
        None where there is no checkpoint.

    Raises:
        ValueError: no checkpoint can be read, or it does not fit the state; Orbax names the arrays.
    """
    folder = workdir / FOLDER
    items = {"state": ocp.args.StandardRestore(abstract), _data_item(): ocp.args.JsonRestore()}

    def read(step: int) -> Any:
        with _manager(folder) as manager:
            return manager.restore(step, args=ocp.args.Composite(**items))

    step, restored = _read_newest(folder, read)
    if restored is None:
        return None
    for newer in checkpoint_files.steps(folder):
        if newer > step and jax.process_index() == 0:
            path = checkpoint_files.set_aside(folder / str(newer))
            logging.warning("the damaged checkpoint of step %d is now %s", newer, path)
    data.set_state(restored[_data_item()])
    return restored["state"]


@contextlib.contextmanager
def _manager(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    with checkpoint_files.orbax_path(folder) as path:
        with ocp.CheckpointManager(path, options=options) as manager:
            yield manager


def _check_saved(
    manager: ocp.CheckpointManager, step: int, state: TrainState, folder: pathlib.Path
) -> None:
    """Raises OSError unless the shapes and dtypes of a state are found in its checkpoint."""
    try:
        found = jax.tree.leaves(manager.item_metadata(step)["state"].tree)
    except ValueError as error:  # TensorStore's
        raise OSError(f"{folder / str(step)} was saved, but cannot be read: {error}") from error
    pairs = [
        sorted((tuple(leaf.shape), str(leaf.dtype)) for leaf in leaves)
        for leaves in (jax.tree.leaves(state), found)
    ]
    if pairs[0] != pairs[1]:
        raise OSError(f"{folder / str(step)} was saved, but holds other arrays than the state")


def _read_newest(folder: pathlib.Path, read: Callable[[int], T]) -> tuple[int, T | None]:
    """Reads the newest checkpoint that is not damaged, and warns of those that are.

    Returns:
        (step, what `read` returns of it), or (0, None) where there is no checkpoint.

    Raises:
        ValueError: there are checkpoints, but none can be read.
    """
    faults = []
    for step in checkpoint_files.steps(folder):
        path = folder / str(step)
        fault = checkpoint_files.find_damage(path)
        try:
            if not fault:
                return step, read(step)
        except Exception as error:  # of many types, for what a checkpoint may lack
            if (path / checkpoint_files.CHECKSUMS).exists():  # intact: it does not fit
                raise
            fault = f"{type(error).__name__}: {error}"
        faults.append(f"  step {step}: {fault}")
        logging.warning("the checkpoint %s is damaged, an older one is used: %s", path, fault)
    if faults:
        raise ValueError(
            f"none of the checkpoints in {folder} can be read:\n"
            + "\n".join(faults)
            + "\nPut copies of them back, or start anew in another --workdir."
        )
    return 0, None


def _data_item() -> str:
    """Returns the name of the iterator's state: each process has its own."""
    return f"data-{jax.process_index()}"


def _abstract_array(
    array: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding
) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


def load_model(workdir: pathlib.Path, dtype: str | None = None) -> Model:
    """Reads a run's newest checkpoint that is not damaged: its averages and frozen parameters.

    Args:
        workdir: of the run.
        dtype: of the computation; None = as in the training.

    Raises:
        FileNotFoundError: there is no configuration or no checkpoint.
        ValueError: no checkpoint can be read.
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
    trained, frozen = split_trained(abstract, list(config.trained), list(config.frozen))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    item = {"ema": trained, "frozen": frozen}
    item = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), item
    )
    args = ocp.args.PyTreeRestore(
        item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )

    folder = workdir / FOLDER

    def read(step: int) -> dict[str, Tree]:
        with checkpoint_files.orbax_path(folder) as path, ocp.PyTreeCheckpointer() as checkpointer:
            return checkpointer.restore(path / str(step) / "state", args=args)

    _, restored = _read_newest(folder, read)
    if restored is None:
        raise FileNotFoundError(f"{folder} holds no finished checkpoint")
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
