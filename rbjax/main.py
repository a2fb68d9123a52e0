"""Trains and evaluates an experiment.

    python -m rbjax.main --config configs/composition.py

While it trains, `touch WORKDIR/sample_now` makes samples and `touch WORKDIR/save_now` a checkpoint
after the step that runs (not in a run of several processes).
"""

from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from rbjax.command_line import (
    config_flag,
    log_progress,
    one_line_errors,
    parse_flags,
    process_flags,
    set_environment,
)

MEMORY = (
    "raise --config.train.accumulate (parts of a batch that are computed one after the other), or "
    "lower --config.batch_size or --config.data.size; while images are generated, lower "
    "--config.eval.batch_size. --config.model.unet.remat=True keeps fewer activations, "
    "--config.mesh.fsdp splits parameters over devices"
)
CONFIG = config_flag()
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Directory of the run: checkpoints, samples, TensorBoard events, results.json, report. "
    "The same directory again resumes the run. While it trains, a file sample_now or save_now in "
    "it asks for samples or a checkpoint. Default: runs/CONFIG or runs/CONFIG_VARIANT.",
)
PROCESSES = process_flags()


def default_workdir(path: str) -> Path:
    """Returns `runs/composition_smoke` for `configs/composition.py:smoke`."""
    file, _, variant = path.partition(":")
    return Path("runs") / "_".join(filter(None, [Path(file).stem, variant]))


def main(argv: list[str]) -> None:
    """Sets the environment up and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    log_progress(logging.get_verbosity())
    set_environment()
    from rbjax import storage
    from rbjax.parallel import distributed  # after the environment is set
    from rbjax.train import loop

    with one_line_errors(MEMORY):
        distributed.initialize(**PROCESSES())
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        workdir = storage.stored_path(WORKDIR.value or default_workdir(path), "--workdir")
        loop.train(CONFIG.value, workdir)
        distributed.wait_for_all()


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
