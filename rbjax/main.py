"""Trains and evaluates an experiment.

python -m rbjax.main --config configs/composition.py
"""

import os
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, FILE.py or FILE.py:VARIANT. Any field can be changed: "
    "--config.FIELD=VALUE; the fields are explained in the file.",
    lock_config=True,
)
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Directory of the run: checkpoints, samples, TensorBoard events, results.json, report. "
    "The same directory again resumes the run. Default: runs/CONFIG or runs/CONFIG_VARIANT.",
)


def default_workdir(path: str) -> pathlib.Path:
    """`configs/composition.py:smoke` -> `runs/composition_smoke`."""
    file, _, variant = path.partition(":")
    return pathlib.Path("runs") / "_".join(filter(None, [pathlib.Path(file).stem, variant]))


def main(argv: list[str]) -> None:
    """Sets the devices up and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache/rbjax"))
    path = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = pathlib.Path(WORKDIR.value) if WORKDIR.value else default_workdir(path)
    from rbjax.train import loop  # after the environment is set

    try:
        loop.train(CONFIG.value, workdir)
    except (ValueError, OSError) as error:
        if flags.FLAGS["alsologtostderr"].value:
            raise
        sys.exit(f"Error: {error}")


def cli() -> None:
    """Runs `main` with the flags parsed."""
    flags.mark_flag_as_required("config")
    app.run(main)


if __name__ == "__main__":
    cli()
