"""Kills a training at random moments, lets it resume, and compares its end with one never killed.

python scripts/chaos.py --kills 50

A run is killed with SIGKILL at any moment (also while it starts), while it writes a checkpoint, or
while it makes images and evaluates; then the same command starts again. When a run reaches its end,
another begins, until there were so many kills. Compared bit for bit with the run that was never
killed: parameters, averages, moments, the place in the data, the metrics of each log step, sample
grids, and the scores of each evaluation. Options that are not known here go to rbjax.main.
"""

import argparse
import collections
import itertools
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from tensorboard.backend.event_processing import event_file_loader

from rbjax.command_line import ArgumentParser, path_argument, set_environment
from rbjax.experiment import workdir as workdir_lib

ROOT = pathlib.Path(__file__).parents[1]
DEFAULTS = ("--config", f"{ROOT}/configs/composition.py:smoke", "--config.total_steps=12")
EVENTS = ("checkpoint", "evaluation", "any moment")
LONGEST = {"checkpoint": 0.6, "evaluation": 4.0}  # seconds after the event's begin
TIMED = ("steps_per_sec", "uptime", "timing", "device_memory")  # scalars that may differ
POLL = 0.002  # seconds


def main(argv: list[str] | None = None) -> int:
    """Runs, kills and compares; returns 1 where something differs."""
    args, options = _parse_args(argv)
    set_environment()
    folder = (args.out or pathlib.Path(tempfile.mkdtemp(prefix="rbjax-chaos-"))).absolute()
    began = time.monotonic()
    _finish(folder / "whole", options)
    duration = time.monotonic() - began
    whole, rng, kills = contents(folder / "whole"), random.Random(args.seed), collections.Counter()
    rounds = 0
    while kills.total() < args.kills:
        rounds += 1
        killed = folder / f"killed-{rounds}"
        for event in _kill_until_end(killed, options, rng, duration):
            kills[event] += 1
            print(f"kill {kills.total()}: {event}, run {rounds}", flush=True)
            if kills.total() == args.kills:
                _finish(killed, options)
                break
        different = differences(whole, contents(killed))
        print(f"run {rounds}: {len(different)} of {len(whole)} differ", flush=True)
        if different:
            print("\n".join(different))
            return 1
        shutil.rmtree(killed)
    scores = sum(name.startswith("eval/") for name in whole)
    counts = ", ".join(f"{kills[event]} at {event}" for event in EVENTS)
    size = sum(np.asarray(value).nbytes for value in whole.values())
    print(
        f"{kills.total()} kills ({counts}) in {rounds} runs: all {len(whole)} arrays, files and "
        f"scalars ({scores} of evaluations), {size:,} bytes, equal those of the run that was never "
        "killed."
    )
    return 0


def _parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="(default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--out", type=path_argument, help="folder of the runs (default: temporary)")
    args, options = parser.parse_known_args(argv)
    return args, [*DEFAULTS, *options]


def _start(workdir: pathlib.Path, options: list[str]) -> subprocess.Popen:
    """Starts a training, whose output goes beside its directory."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "rbjax.main", f"--workdir={workdir}", *options]
    with workdir.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _finish(workdir: pathlib.Path, options: list[str]) -> None:
    """Trains to the end.

    Raises:
        RuntimeError: it ended with an error.
    """
    if _start(workdir, options).wait():
        raise RuntimeError(f"the training failed: {workdir.with_suffix('.log')}")


def _kill_until_end(
    workdir: pathlib.Path, options: list[str], rng: random.Random, duration: float
) -> Iterator[str]:
    """Starts and kills a training until it ends by itself; yields what each kill was aimed at.

    Raises:
        RuntimeError: it ended with an error.
    """
    for event in itertools.chain.from_iterable(rng.sample(EVENTS, 3) for _ in itertools.count()):
        begins = _begin_of(workdir, event)
        process = _start(workdir, options)
        while process.poll() is None and not begins():
            time.sleep(POLL)
        try:
            process.wait(rng.uniform(0, LONGEST.get(event, duration)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            yield event
            continue
        if process.returncode:
            raise RuntimeError(f"the training failed: {workdir.with_suffix('.log')}")
        return


def _begin_of(workdir: pathlib.Path, event: str) -> Callable[[], bool]:
    """Returns a function that says whether the event has begun since now."""
    if event not in LONGEST:
        return lambda: True
    pattern = "checkpoints/*tmp*" if event == "checkpoint" else "samples/*.png"

    def found() -> set[tuple[str, int]]:
        try:
            return {(path.name, path.stat().st_mtime_ns) for path in workdir.glob(pattern)}
        except FileNotFoundError:  # between the two
            return before

    before: set[tuple[str, int]] = set()
    before = found()
    return lambda: not found() <= before


def contents(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads what must be equal at the end of a run: {name: array, bytes or number}."""
    newest = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    found = arrays(newest / "state", "state")
    if (frozen := newest.with_name("frozen")).exists():
        found |= arrays(frozen, "frozen")
    files = [newest / "data-0/metadata", newest / "log_metrics/metadata", workdir / "loss.json"]
    files += [workdir / "results.json", *sorted((workdir / "samples").glob("*.png"))]
    files += workdir.glob(workdir_lib.PERIODIC_RESULTS)
    for path in files:
        found[str(path.relative_to(workdir))] = path.read_bytes()
    return found | _scalars(workdir)


def arrays(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """Reads the arrays of a folder of Orbax: {path that begins with the name: array}."""
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(folder).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    flat = ocp.tree.to_flat_dict({name: restored})
    return {"/".join(map(str, keys)): np.asarray(leaf) for keys, leaf in flat.items()}


def _scalars(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads the scalars of TensorBoard: {tag and step: value, the last where there are several}."""
    found = {}
    for path in sorted(workdir.glob("events.out.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.HasField("tensor") and not value.tag.startswith(TIMED):
                    found[f"{value.tag} {event.step}"] = value.tensor.SerializeToString()
    return found


def differences(whole: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Returns the names of what is not equal bit for bit, or is in one of them only."""

    def bits(found: dict[str, Any], name: str) -> Any:
        value = found.get(name)
        return (value.dtype, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value

    names = sorted(whole.keys() | other.keys())
    return [name for name in names if bits(whole, name) != bits(other, name)]


if __name__ == "__main__":
    sys.exit(main())
