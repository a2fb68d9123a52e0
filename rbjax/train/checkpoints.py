"""Orbax checkpoints: the training state together with the data iterator's state."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
import orbax.checkpoint as ocp
import tokenizers
from absl import logging
from clu.metrics import Collection
from flax import nnx
from ml_collections import ConfigDict

from rbjax import storage
from rbjax.data import dataset as dataset_lib
from rbjax.data import disk_space
from rbjax.experiment.workdir import TOKENIZER
from rbjax.interop import json_files
from rbjax.interop.saved_model import Model
from rbjax.models.params import Tree, merge, split_trained
from rbjax.models.pipeline import abstract_pipeline
from rbjax.parallel import distributed
from rbjax.storage import StoredPath
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.train import checkpoint_files, frozen_copy
from rbjax.train.state import TrainState

FOLDER = "checkpoints"
KEPT = 2  # checkpoints
METRICS = "log_metrics"  # in a checkpoint; "metrics" means something else to Orbax
DATA = "data-0"  # the iterator's state, the same for all processes; process 0 writes it


class Data(Protocol):
    """What reads a training's data: its state says where it stands, the same in all processes."""

    def get_state(self) -> Any: ...

    def set_state(self, state: Any, /) -> None: ...


def save(
    workdir: StoredPath,
    step: int,
    *,
    state: TrainState,
    data: Data,
    metrics: Collection | None = None,
) -> None:
    """Saves the state, the iterator's state and the metrics since the last line of the log.

    Nothing is done where there is a checkpoint of this step. The newest KEPT stay. Frozen
    parameters are saved once for all of them.

    Raises:
        OSError: it cannot be written (no space, say), or not be read back.
    """
    folder = workdir / FOLDER
    if step in checkpoint_files.steps(folder):
        return
    storage.make_folder(folder)
    changing = dataclasses.replace(state, frozen={})
    items = {"state": ocp.args.StandardSave(changing), DATA: ocp.args.JsonSave(data.get_state())}
    if metrics is not None:
        values = [np.asarray(x).item() for x in jax.tree.leaves(metrics)]
        items[METRICS] = ocp.args.JsonSave({"values": values})
    with _writing(step, folder):  # first: a manager removes unfinished folders while it is open
        digest = frozen_copy.save(folder, state.frozen)
    if digest:
        items[frozen_copy.DIGEST] = ocp.args.JsonSave({"sha256": digest})
    with _manager(folder, saves=True) as manager:
        with _writing(step, folder):
            manager.save(step, args=ocp.args.Composite(**items), force=True)
        _check_saved(manager, step, changing, folder)
    if distributed.is_primary():
        shared = frozen_copy.FOLDER if state.frozen else ""
        checkpoint_files.write_checksums(folder / str(step), shared)


@contextlib.contextmanager
def _writing(step: int, folder: StoredPath) -> Iterator[None]:
    """Raises OSError, with the remedy, where something cannot be written."""
    try:
        yield
    except Exception as error:  # also TensorStore's, and of a bucket those of gcsfs and the login
        raise OSError(
            f"the checkpoint of step {step} cannot be written in {folder}: {error}. Those that "
            "were saved before are intact; with room on the disk the same command goes on"
        ) from error


def check_space(workdir: StoredPath, abstract: TrainState) -> None:
    """Raises OSError where the disk has no room for the checkpoints that are still to come.

    Args:
        workdir: of the run.
        abstract: arrays of the state.
    """

    def size_of(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    folder, frozen = workdir / FOLDER, size_of(abstract.frozen)
    coming = KEPT + 1 - min(len(checkpoint_files.steps(folder)), KEPT)  # one while it is written
    needed = coming * (size_of(abstract) - frozen)
    needed += 0 if frozen_copy.exists(folder) else frozen
    disk_space.check(folder, needed, "give a --workdir on another disk")


def restore(
    workdir: StoredPath,
    *,
    abstract: TrainState,
    data: Data,
    make_frozen: Callable[[], Tree] | None = None,
    is_start_known: bool = False,
) -> TrainState | None:
    """Restores the newest checkpoint that is not damaged onto today's mesh, and sets the iterator.

    Args:
        workdir: of the run.
        abstract: shapes, dtypes and shardings of the state.
        data: set to where the checkpoint's run stopped.
        make_frozen: returns the run's frozen parameters as at its start, for `frozen_copy.mend`.
        is_start_known: of `frozen_copy.mend`.

    Returns:
        None where there is no checkpoint.

    Raises:
        ValueError: no checkpoint can be read, or it does not fit the state; Orbax names the arrays.
    """
    folder = workdir / FOLDER
    if make_frozen:
        frozen_copy.mend(folder, make_frozen, is_start_known=is_start_known)

    def read(step: int) -> tuple[TrainState, Any]:
        with _manager(folder) as manager:
            args = ocp.args.Composite(**{DATA: ocp.args.JsonRestore()})
            data_state = manager.restore(step, args=args)[DATA]
        return _read_state(folder, step, abstract), data_state

    step, restored = checkpoint_files.read_newest(folder, read)
    if restored is None:
        return None
    for newer in checkpoint_files.steps(folder):
        if newer > step and distributed.is_primary():
            path = checkpoint_files.set_aside(folder / str(newer))
            logging.warning("the damaged checkpoint of step %d is now %s", newer, path)
    state, data_state = restored
    data.set_state(data_state)
    return state


def read_metrics(workdir: StoredPath, step: int, zero: Collection) -> Collection:
    """Returns the metrics of a checkpoint; `zero`, those of no step, where there are none."""
    path = workdir / FOLDER / str(step) / METRICS / "metadata"
    values = json.loads(path.read_text())["values"] if path.exists() else ()
    leaves, structure = jax.tree.flatten(zero)
    if len(leaves) != len(values):  # of another version
        return zero
    arrays = (np.asarray(v, x.dtype) for v, x in zip(values, leaves, strict=True))
    placed = (jax.device_put(v, x.sharding) for v, x in zip(arrays, leaves, strict=True))
    return jax.tree.unflatten(structure, placed)


def restore_state(workdir: StoredPath, abstract: TrainState) -> TrainState:
    """Restores the state alone, as `restore`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: as `restore`.
    """
    folder = workdir / FOLDER

    def read(step: int) -> TrainState:
        return _read_state(folder, step, abstract)

    _, state = checkpoint_files.read_newest(folder, read)
    if state is None:
        raise FileNotFoundError(f"{folder} holds no finished checkpoint")
    return state


def _read_state(folder: StoredPath, step: int, abstract: TrainState) -> TrainState:
    inside = frozen_copy.is_inside(folder, step)
    item = abstract if inside else dataclasses.replace(abstract, frozen={})
    with checkpoint_files.orbax_path(folder) as path, ocp.StandardCheckpointer() as reader:
        state = reader.restore(path / str(step) / "state", item)
    if inside:
        return state
    return dataclasses.replace(state, frozen=frozen_copy.restore(folder, abstract.frozen))


@contextlib.contextmanager
def _manager(folder: StoredPath, *, saves: bool = False) -> Iterator[ocp.CheckpointManager]:
    # Without a save it is not waited for: in a bucket, slowly, it would remove what is saved next.
    cleans = saves or not storage.is_remote(folder)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=cleans
    )
    with checkpoint_files.orbax_path(folder) as p, ocp.CheckpointManager(p, options=options) as m:
        yield m


def _check_saved(
    manager: ocp.CheckpointManager, step: int, state: TrainState, folder: StoredPath
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


def load_model(workdir: StoredPath, dtype: str | None = None) -> Model:
    """Reads a run's newest checkpoint that is not damaged: its averages and frozen parameters.

    Args:
        workdir: of the run.
        dtype: of the computation; None = as in the training.

    Raises:
        FileNotFoundError: there is no configuration or no checkpoint.
        ValueError: no checkpoint can be read.
    """
    config = read_config(workdir)
    for part in ("unet", "vae", "text"):
        if dtype and config.model.get(part):  # an empty `vae` means BlockDCT: it has to stay empty
            config.model[part].dtype = dtype
    tokenizer = _tokenizer(workdir, config)
    graphdef, abstract = nnx.split(abstract_pipeline(config, tokenizer), nnx.Param)
    step, params = _restore_averages(workdir, nnx.to_pure_dict(abstract), config.train)
    return Model(config, tokenizer, graphdef, params, step)


def read_config(workdir: StoredPath) -> ConfigDict:
    """Reads the configuration of a run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON object.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {workdir} is not the workdir of a training")
    return ConfigDict(_tuples(json_files.read(path)))


def _restore_averages(workdir: StoredPath, abstract: Tree, config: ConfigDict) -> tuple[int, Tree]:
    """Restores step and all parameters, on one device; the optimiser's moments are not read."""
    trained, frozen = split_trained(abstract, list(config.trained), list(config.frozen))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    trained, frozen = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        (trained, frozen),
    )
    folder = workdir / FOLDER

    def read(step: int) -> dict[str, Tree]:
        inside = frozen_copy.is_inside(folder, step)
        item = {"ema": trained, "frozen": frozen} if inside else {"ema": trained}
        restore_args = ocp.checkpoint_utils.construct_restore_args(item)
        args = ocp.args.PyTreeRestore(item, restore_args=restore_args, partial_restore=True)
        with checkpoint_files.orbax_path(folder) as path, ocp.PyTreeCheckpointer() as checkpointer:
            found = checkpointer.restore(path / str(step) / "state", args=args)
        return found if inside else found | {"frozen": frozen_copy.restore(folder, frozen)}

    step, restored = checkpoint_files.read_newest(folder, read)
    if restored is None:
        raise FileNotFoundError(f"{folder} holds no finished checkpoint")
    return step, merge(restored["ema"], restored["frozen"])


def _tokenizer(workdir: StoredPath, config: ConfigDict) -> tokenizers.Tokenizer:
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
