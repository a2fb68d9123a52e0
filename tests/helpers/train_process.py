"""Runs of several processes on this machine, and what each process is:

python -m tests.helpers.train_process SETTINGS, a small training, its settings as JSON; or, with
`evaluate`, `rbjax.evaluate` with these arguments and a stand-in for the VQA model.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).parents[2]
LIMIT = 1800  # seconds, so that a run that waits for ever ends the test


def start(commands: Sequence[Sequence[str]], devices: int) -> list[subprocess.Popen]:
    """Starts commands, each with so many virtual devices."""
    flag = f"--xla_force_host_platform_device_count={devices}"  # of two such flags the last counts
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]


def run(commands: Sequence[Sequence[str]], devices: int) -> list[subprocess.CompletedProcess]:
    """Starts commands at once, each with so many virtual devices, and waits for all."""
    started = start(commands, devices)
    try:
        outputs = [process.communicate(timeout=LIMIT)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        subprocess.CompletedProcess(p.args, p.returncode, text)
        for p, text in zip(started, outputs, strict=True)
    ]


def train(
    workdir: pathlib.Path | str,
    data_dir: pathlib.Path,
    *,
    processes: int,
    devices: int,
    **changes: object,
) -> list[str]:
    """Trains in several processes; returns what each printed. See `training`."""
    found = run(training(workdir, data_dir, processes=processes, **changes), devices)
    assert not any(process.returncode for process in found), "\n".join(p.stdout for p in found)
    return [process.stdout for process in found]


def training(
    workdir: pathlib.Path | str, data_dir: pathlib.Path, *, processes: int, **changes: object
) -> list[list[str]]:
    """Returns the commands of a training, one for each process.

    Args:
        workdir: of the run.
        data_dir: of TFDS.
        processes: their number.
        changes: of tiny_run's configuration, with "__" for dots; `evaluate` turns evaluation on,
            `late` are seconds that the last process sleeps before each of its first two updates.
    """
    settings = {"workdir": str(workdir), "data_dir": str(data_dir), "processes": processes}
    settings |= {"coordinator": f"localhost:{free_port()}", "changes": changes}
    module = "tests.helpers.train_process"
    return [[module, json.dumps(settings | {"process": i})] for i in range(processes)]


def free_port() -> int:
    """Returns a port that nothing uses now."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def evaluate(arguments: Sequence[object], *, processes: int, devices: int) -> list[str]:
    """Runs `rbjax.evaluate` in several processes; returns what each printed."""
    options = [*map(str, arguments), f"--coordinator=localhost:{free_port()}"]
    options += [f"--num_processes={processes}", "--process_id="]
    module = "tests.helpers.train_process"
    commands = [
        [module, json.dumps({"evaluate": [*options[:-1], f"{options[-1]}{i}"]})]
        for i in range(processes)
    ]
    found = run(commands, devices)
    assert not any(process.returncode for process in found), "\n".join(p.stdout for p in found)
    return [process.stdout for process in found]


def main(settings: dict) -> None:
    """Trains or evaluates as one of the processes."""
    from rbjax import evaluate, storage
    from rbjax.evaluation import judging
    from rbjax.parallel import distributed
    from rbjax.train import loop
    from tests.helpers import tiny_run

    if "evaluate" in settings:
        judging.VQA.load = lambda *folder: tiny_run.VQA()
        sys.argv[1:] = settings["evaluate"]
        evaluate.main()
        return
    distributed.initialize(settings["coordinator"], settings["processes"], settings["process"])
    changes = {name.replace("__", "."): value for name, value in settings["changes"].items()}
    if changes.pop("evaluate", False):
        judging.VQA.load = lambda *folder: tiny_run.VQA()
    else:
        loop.Evaluator = tiny_run.NoEvaluation
    late = changes.pop("late", 0)
    if late and settings["process"] == settings["processes"] - 1:
        loop.jit_update = _slow_at_first(loop.jit_update, late)
    config = tiny_run.config(settings["data_dir"])
    config.mesh.data = -1
    config.update_from_flattened_dict(changes)
    loop.train(config, storage.stored_path(settings["workdir"], "--workdir"))
    distributed.wait_for_all()


def _slow_at_first(jit_update: Callable, seconds: float) -> Callable:
    """Returns `jit_update`, whose update sleeps before the first two calls."""

    def make(*arguments: object) -> Callable:
        update, sleeps = jit_update(*arguments), [seconds, seconds]

        def call(*operands: object) -> object:
            if sleeps:
                time.sleep(sleeps.pop())
            return update(*operands)

        return call

    return make


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
