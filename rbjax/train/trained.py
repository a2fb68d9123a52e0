"""What a training run has learned: the averaged parameters of its newest checkpoint."""

import json
import pathlib

import jax
import orbax.checkpoint as ocp
import tokenizers
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import prompts, source
from rbjax.interop import model_folder
from rbjax.interop.model_folder import Model
from rbjax.train import state as states

TOKENIZER = "tokenizer.json"


def load(workdir: pathlib.Path, dtype: str | None = None) -> Model:
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
    graphdef, abstract = nnx.split(model_folder.abstract_pipeline(config, tokenizer), nnx.Param)
    params = _restore(workdir, nnx.to_pure_dict(abstract), config.train)
    return Model(config, tokenizer, graphdef, params)


def _restore(workdir: pathlib.Path, abstract: states.Tree, config: ConfigDict) -> states.Tree:
    """Averages of what trained, and what is frozen; the optimiser's moments are not read."""
    with ocp.CheckpointManager((workdir / "checkpoints").resolve()) as manager:
        step = manager.latest_step()
    if step is None:
        raise FileNotFoundError(f"{workdir / 'checkpoints'} holds no finished checkpoint")
    trained, frozen = states.split_trained(abstract, list(config.trained), list(config.frozen))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {"ema": trained, "frozen": frozen}
    item = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)
    args = ocp.args.PyTreeRestore(
        item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = (workdir / "checkpoints" / str(step) / "state").resolve()
        restored = checkpointer.restore(path, args=args)
    return states.merge(restored["ema"], restored["frozen"])


def _tokenizer(workdir: pathlib.Path, config: ConfigDict) -> tokenizers.Tokenizer:
    """The one that the run kept; runs that kept none used the words of their data set."""
    path = workdir / TOKENIZER
    if path.is_file():
        return tokenizers.Tokenizer.from_file(str(path))
    builder = source.prepare(config.data.dataset, config.data_dir)
    return prompts.word_tokenizer(
        json.loads((pathlib.Path(builder.data_dir) / "vocabulary.json").read_text())
    )


def _tuples(value):
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
