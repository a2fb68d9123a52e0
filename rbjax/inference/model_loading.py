"""Opens what a user calls a model: a saved model, an export, or the directory of a training."""

from pathlib import Path

from rbjax.interop import saved_model
from rbjax.interop.saved_model import Model
from rbjax.train import checkpoints

SHIPPED = Path(__file__).parent / "weights" / "avatars"


def load_model(checkpoint: str | Path | None = None, dtype: str | None = None) -> Model:
    """Opens a saved model (see interop/saved_model.py) or the working directory of a training.

    Args:
        checkpoint: the folder; None = the model that ships with the package.
        dtype: of the computation; None = float32 for a saved model, else as in the training.

    Raises:
        FileNotFoundError: the folder holds neither.
    """
    folder = SHIPPED if checkpoint is None else Path(checkpoint).expanduser()
    if (folder / saved_model.INDEX).is_file():
        return saved_model.load(folder, dtype or "float32")
    if (folder / "checkpoints").is_dir():
        return checkpoints.load_model(folder, dtype)
    if checkpoint is None:
        raise FileNotFoundError(f"no model ships in {folder}: train one and give --checkpoint")
    raise FileNotFoundError(
        f"--checkpoint={folder} holds no model: expected {saved_model.INDEX} (a saved model) or "
        "checkpoints/ (the --workdir of a training)"
    )
