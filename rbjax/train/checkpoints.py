"""Orbax checkpoints: the training state and the data iterator's state, together."""

import json
import pathlib

import grain
import jax
import orbax.checkpoint as ocp
import tokenizers
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import dataset as dataset_lib
from rbjax.interop.saved_model import Model
from rbjax.models import params as params_lib
from rbjax.models.pipeline import abstract_pipeline
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.train.state import TrainState
from tfds_retribooru import vocabulary


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


TOKENIZER = "tokenizer.json"


def load_model(workdir: pathlib.Path, dtype: str | None = None) -> Model:
    """Reads the working directory of a run.

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
    params = _restore(workdir, nnx.to_pure_dict(abstract), config.train)
    return Model(config, tokenizer, graphdef, params)


def _restore(
    workdir: pathlib.Path, abstract: params_lib.Tree, config: ConfigDict
) -> params_lib.Tree:
    """Averages of what trained, and what is frozen; the optimiser's moments are not read."""
    with ocp.CheckpointManager((workdir / "checkpoints").resolve()) as manager:
        step = manager.latest_step()
    if step is None:
        raise FileNotFoundError(f"{workdir / 'checkpoints'} holds no finished checkpoint")
    trained, frozen = params_lib.split_trained(abstract, list(config.trained), list(config.frozen))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {"ema": trained, "frozen": frozen}
    item = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)
    args = ocp.args.PyTreeRestore(
        item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = (workdir / "checkpoints" / str(step) / "state").resolve()
        restored = checkpointer.restore(path, args=args)
    return params_lib.merge(restored["ema"], restored["frozen"])


def _tokenizer(workdir: pathlib.Path, config: ConfigDict) -> tokenizers.Tokenizer:
    """The one that the run kept; runs that kept none used the words of their data set."""
    path = workdir / TOKENIZER
    if path.is_file():
        return tokenizers.Tokenizer.from_file(str(path))
    builder = dataset_lib.prepare(config.data.dataset, config.data_dir)
    return tokenizer_lib.word_tokenizer(vocabulary.read(builder.data_path))


def _tuples(value):
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
