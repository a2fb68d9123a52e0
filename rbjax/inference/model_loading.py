"""Opens what a user calls a model: a saved model, an export, or the directory of a training."""

from rbjax import storage
from rbjax.interop import saved_model, shipped_base
from rbjax.interop.saved_model import Model
from rbjax.storage import StoredPath
from rbjax.train import checkpoints

SHIPPED = shipped_base.RETRINET


def load_model(checkpoint: str | StoredPath | None = None, dtype: str | None = None) -> Model:
    """Loads a saved model (see interop/saved_model.py) or the averages of a training.

    Args:
        checkpoint: the folder, or the working directory of a training, on this machine or in a
            bucket; None = the model that ships with the package.
        dtype: of the computation; None = float32 for a saved model, else as in the training.

    Raises:
        FileNotFoundError: the folder holds neither.
        ValueError: it is a URL, or its weights do not fit its configuration.
    """
    folder = SHIPPED if checkpoint is None else storage.stored_path(checkpoint, "--checkpoint")
    if (folder / saved_model.INDEX).is_file():
        with storage.local_copy(folder) as copy:
            return saved_model.load(copy, dtype or "float32")
    if (folder / "checkpoints").is_dir():
        return checkpoints.load_model(folder, dtype)
    if checkpoint is None:
        raise FileNotFoundError(f"no model ships in {folder}: train one and give --checkpoint")
    raise FileNotFoundError(
        f"--checkpoint={folder} holds no model: expected {saved_model.INDEX} (a saved model) or "
        "checkpoints/ (the --workdir of a training)"
    )
