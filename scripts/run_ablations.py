"""Trains a list of variants with several seeds, and makes one table and one plot of them.

python scripts/run_ablations.py --base avatars --changes drop_prompt_0 drop_prompt_50 --out runs/ablations

Each run is `python -m rbjax.main` in OUT/CHANGE/seed_SEED: one that this command finished is not
repeated, one that was interrupted goes on, one that fails is named and the others go on. "unchanged" is
the variant --base itself. A run's command and device stand in its ablation.json. OUT receives table.md,
table.json (every number, command, seed and device) and ablations.png; runs stand in one table only if
they differ in nothing but seeds and changes. What follows `--` is given to every run:
-- --config.total_steps=800
"""  # noqa: E501  a command

import argparse
import dataclasses
import functools
import json
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from rbjax.command_line import ArgumentParser, one_line_errors, path_argument, set_environment

if __name__ == "__main__":
    set_environment()  # before JAX is imported
sys.path.append(str(Path(__file__).parents[1]))  # where configs/ is

import numpy as np
from flax import traverse_util
from matplotlib.figure import Figure

from configs import ablations
from rbjax.evaluation.results import COLUMNS, label
from rbjax.interop import json_files

UNCHANGED = "unchanged"
ROW = "trained"
RECORD = "ablation.json"  # in a run's folder
SUITE = ("data.faces", "data.clothes", "data.tasks.composition")  # what the references follow
DEVICE = "import jax; d = jax.devices(); print(d[0].platform, len(d), d[0].device_kind, sep='|')"


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        values: column -> value, None where it is not scored.
        config: field -> value, as JSON has it.
        record: "command" and "device"; empty for a run of an older version.
    """

    values: dict[str, float | None]
    config: dict[str, Any]
    record: dict[str, str]


Runs = dict[str, dict[int, Run]]  # change -> seed -> run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--base", default="avatars", help="variant of configs/composition.py (default: avatars)")
    add("--changes", nargs="+", default=[UNCHANGED], help="of configs/ablations.py")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one run each (default: 0 1 2)")
    add("--out", type=path_argument, required=True, help="folder of the runs, table and plot")
    add("--table_only", action="store_true", help="train nothing: table and plot of what is there")
    add("rest", nargs="*", help="after --: options of every run, --config.FIELD=VALUE")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs what is not finished; ends with one line where the user can put something right."""
    args = parse_args(argv)
    with one_line_errors("see the run's own message"):
        if unknown := set(args.changes) - {UNCHANGED, *ablations.CHANGES}:
            known = ", ".join([UNCHANGED, *ablations.CHANGES])
            raise ValueError(f"--changes: {', '.join(sorted(unknown))}: use some of {known}")
        failed = [] if args.table_only else train_all(args)
        runs = collect(args)
        if runs:
            write(args.out, runs)
            print((args.out / "table.md").read_text())
        if failed:
            raise ValueError(f"these runs failed, and are not in the table: {', '.join(failed)}")
        if not runs:
            raise ValueError(f"{args.out} holds no finished run of these changes and seeds")


def train_all(args: argparse.Namespace) -> list[str]:
    """Trains every change with every seed; returns the runs that failed."""
    runs = [(change, seed) for change in args.changes for seed in args.seeds]
    return [str(workdir(args.out, *run)) for run in runs if not train(args, *run)]


def train(args: argparse.Namespace, change: str, seed: int) -> bool:
    """Trains a run unless it is finished; returns whether it could.

    Raises:
        ValueError: it was finished by another command.
    """
    folder, options = workdir(args.out, change, seed), run_options(args, change, seed)
    results, text = folder / "results.json", shlex.join(["python", "-m", "rbjax.main", *options])
    before = _written_at(results)
    record = read_record(folder)
    if before is not None and record.get("command") == text:
        print(f"{folder}: finished", flush=True)
        return True
    print(f"{folder}: trains", flush=True)
    made = {"command": text, "device": device()}
    command = [sys.executable, "-m", "rbjax.main", *options, f"--workdir={folder.absolute()}"]
    if subprocess.run(command, check=False).returncode:
        return False
    if _written_at(results) != before:
        (folder / RECORD).write_text(json.dumps(made) + "\n")
    elif record:
        raise ValueError(
            f"{folder} was finished by another command, {record['command']!r}: give its options, "
            "remove the folder, or give another --out"
        )
    return True


def _written_at(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def workdir(out: Path, change: str, seed: int) -> Path:
    """Returns the working directory of a run."""
    return out / change / f"seed_{seed}"


def run_options(args: argparse.Namespace, change: str, seed: int) -> list[str]:
    """Returns the options of a run, but its --workdir."""
    config = f"configs/ablations.py:{args.base},{change}"
    if change == UNCHANGED:
        config = f"configs/composition.py:{args.base}"
    return ["--config", config, f"--config.seed={seed}", *args.rest]


def read_record(folder: Path) -> dict[str, str]:
    """Returns a run's command and device; nothing where they were not written."""
    return json_files.read(folder / RECORD) if (folder / RECORD).is_file() else {}


@functools.cache
def device() -> str:
    """Returns the name of the device that trains; a process of its own asks, and frees it."""
    asked = subprocess.run(
        [sys.executable, "-c", DEVICE], capture_output=True, text=True, check=True
    )
    kind, count, name = asked.stdout.strip().splitlines()[-1].split("|")
    return f"CPU, {platform.machine()}" if kind == "cpu" else f"{count} x {name}"


def collect(args: argparse.Namespace) -> Runs:
    """Reads the runs that are finished.

    Raises:
        ValueError: they differ in more than their seeds and changes.
    """
    runs: Runs = {}
    shared: dict[str, Any] = {}  # fields that no change of a run so far is about
    for change in args.changes:
        own = json.loads(json.dumps(ablations.CHANGES.get(change, {})))
        for seed in args.seeds:
            folder = workdir(args.out, change, seed)
            if not (folder / "results.json").is_file():
                continue
            run = read_run(folder)
            check(run.config, {**shared, **own, "seed": seed}, folder)
            shared |= {k: v for k, v in run.config.items() if k not in own}
            runs.setdefault(change, {})[seed] = run
    return runs


def read_run(folder: Path) -> Run:
    """Reads a finished run."""
    row = json_files.read(folder / "results.json")["rows"].get(ROW, {})
    cells = {name: row.get(name) for name in COLUMNS}
    return Run(
        values={name: None if cell is None else cell["mean"] for name, cell in cells.items()},
        config=traverse_util.flatten_dict(json_files.read(folder / "config.json"), sep="."),
        record=read_record(folder),
    )


def check(config: dict[str, Any], expected: dict[str, Any], folder: Path) -> None:
    """Raises ValueError where a run's fields have other values; they are named."""
    different = [
        f"{name} is {config.get(name)!r} instead of {value!r}"
        for name, value in expected.items()
        if config.get(name) != value
    ]
    if different:
        raise ValueError(
            f"{folder} was trained with other settings than the other runs and its change say: "
            f"{'; '.join(different)}. Remove it, or give another --out"
        )


def summary(values: list[float | None]) -> list[float] | None:
    """Returns mean, lowest and highest over seeds; None if a seed has no value."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    return [float(np.mean(numbers)), min(numbers), max(numbers)]


def table(runs: Runs) -> str:
    """Returns the table in Markdown: percent, mean over seeds with the lowest and the highest.

    Changes that are evaluated on other cases than the first are marked.
    """
    lines = [
        "| change | seeds | " + " | ".join(map(label, COLUMNS)) + " |",
        "| --- " * (len(COLUMNS) + 2) + "|",
    ]
    suites = {change: _suite(next(iter(by_seed.values()))) for change, by_seed in runs.items()}
    others = {change for change in runs if suites[change] != next(iter(suites.values()))}
    for change, by_seed in runs.items():
        cells = []
        for column in COLUMNS:
            found = summary([run.values[column] for run in by_seed.values()])
            mean, low, high = (100 * value for value in found or [0.0] * 3)
            cells.append("–" if found is None else f"{mean:.1f} ({low:.1f} to {high:.1f})")
        name = f"{change} †" if change in others else change
        lines.append(f"| {name} | {len(by_seed)} | {' | '.join(cells)} |")
    if others:
        lines += ["", "† Not the cases of the first row: references are given as in its training."]
    return "\n".join(lines) + "\n"


def _suite(run: Run) -> list[Any]:
    faces, clothes, composition = (run.config.get(name) for name in SUITE)
    return [faces, clothes, bool(composition)]


def plot(runs: Runs) -> Figure:
    """Returns a panel a column: a dot a seed, a line at their mean."""
    figure = Figure(figsize=(10.5, 1.6 + 0.5 * len(runs)), dpi=130, layout="constrained")
    axes = figure.subplots(1, len(COLUMNS), sharey=True)
    for axis, column in zip(axes, COLUMNS, strict=True):
        for place, by_seed in enumerate(runs.values()):
            values = [run.values[column] for run in by_seed.values()]
            numbers = 100 * np.array([value for value in values if value is not None], float)
            axis.plot(numbers, [place] * len(numbers), "o", color="#2563eb", alpha=0.6, ms=4)
            if len(numbers):
                axis.plot([numbers.mean()] * 2, [place - 0.3, place + 0.3], color="#334155")
        axis.set_title(label(column), fontsize=8)
        axis.set(xlim=(min(-2, axis.get_xlim()[0]), 102), ylim=(len(runs) - 0.5, -0.5))
        axis.grid(axis="x", color="#e2e8f0")
    axes[0].set_yticks(range(len(runs)), list(runs), fontsize=8)
    return figure


def write(out: Path, runs: Runs) -> None:
    """Writes table.md, table.json and ablations.png."""
    record = {
        "values": {c: {str(s): run.values for s, run in of.items()} for c, of in runs.items()},
        "runs": {c: {str(s): run.record for s, run in of.items()} for c, of in runs.items()},
    }
    (out / "table.json").write_text(json.dumps(record, indent=1) + "\n")
    told = "".join(f"- {change}, {_made(by_seed)}\n" for change, by_seed in runs.items())
    (out / "table.md").write_text(f"{table(runs)}\n{told}")
    plot(runs).savefig(out / "ablations.png")


def _made(by_seed: dict[int, Run]) -> str:
    """Returns seeds, devices and the first seed's command."""
    records = [run.record for run in by_seed.values()]
    devices = dict.fromkeys(
        record.get("device", "a device that is not known") for record in records
    )
    command = records[0].get("command", "a command that is not known")
    return f"seeds {', '.join(map(str, by_seed))}, {', '.join(devices)}: `{command}`"


if __name__ == "__main__":
    main()
