"""Trains and evaluates an experiment.

python -m rbjax.main --config configs/composition.py
"""

import logging as std_logging
import pathlib

from absl import app, flags, logging
from ml_collections import config_flags

from rbjax.command_line import CONFIG, one_line_errors, parse_flags, set_environment

MEMORY = (
    "raise --config.train.accumulate (parts of a batch that are computed one after the other), or "
    "lower --config.batch_size or --config.data.size; while images are generated, lower "
    "--config.eval.batch_size. --config.model.unet.remat=True keeps fewer activations, "
    "--config.mesh.fsdp splits parameters over devices"
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
    logging.get_absl_handler().addFilter(_is_ours)
    set_environment()
    path = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = pathlib.Path(WORKDIR.value or default_workdir(path)).expanduser()
    from rbjax.train import loop  # after the environment is set

    with one_line_errors(MEMORY):
        loop.train(CONFIG.value, workdir)


def _is_ours(record) -> bool:
    """Leaves out what Orbax tells about itself."""
    return "orbax" not in record.pathname or record.levelno > std_logging.INFO


def cli() -> None:
    """Runs `main` with the flags parsed."""
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    cli()
