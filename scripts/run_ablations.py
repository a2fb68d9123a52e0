"""Trains a list of variants with several seeds, and makes one table and one plot of them.

python scripts/run_ablations.py --base avatars --changes drop_prompt_0 drop_prompt_50 --out runs/ablations

Each run is `python -m rbjax.main` in OUT/CHANGE/seed_SEED: a run that is finished is not repeated,
one that was interrupted goes on, one that fails is named and the others go on. "unchanged" is the
variant --base itself. OUT receives table.md, table.json (every number, command, seeds and device) and
ablations.png. What follows `--` is given to every run: -- --config.total_steps=800
"""  # noqa: E501  a command

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from rbjax.command_line import ArgumentParser, one_line_errors, path_argument, set_environment

if __name__ == "__main__":
    set_environment()  # before JAX is imported

import numpy as np
from matplotlib.figure import Figure

from rbjax.evaluation.results import COLUMNS, label
from rbjax.interop import json_files

ROOT = Path(__file__).parents[1]
UNCHANGED = "unchanged"
ROW = "trained"

# change -> seed -> column -> value, None where it is not scored
Values = dict[str, dict[int, dict[str, float | None]]]


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
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    with one_line_errors("see the run's own message"):
        failed = [] if args.table_only else train_all(args)
        values = collect(args)
        write(args.out, values, command=["python", "scripts/run_ablations.py", *argv])
        print((args.out / "table.md").read_text())
        if failed:
            raise ValueError(f"these runs failed, and are not in the table: {', '.join(failed)}")


def train_all(args: argparse.Namespace) -> list[str]:
    """Trains every change with every seed; returns the runs that failed."""
    failed = []
    for change in args.changes:
        for seed in args.seeds:
            folder = workdir(args.out, change, seed)
            if (folder / "results.json").is_file():
                print(f"{folder}: finished", flush=True)
                continue
            print(f"{folder}: trains", flush=True)
            if subprocess.run(command(args, change, seed), cwd=ROOT, check=False).returncode:
                failed.append(str(folder))
    return failed


def workdir(out: Path, change: str, seed: int) -> Path:
    """Returns the working directory of a run."""
    return out / change / f"seed_{seed}"


def command(args: argparse.Namespace, change: str, seed: int) -> list[str]:
    """Returns the command of a run."""
    config = f"configs/ablations.py:{args.base},{change}"
    if change == UNCHANGED:
        config = f"configs/composition.py:{args.base}"
    folder = workdir(args.out.absolute(), change, seed)
    options = ["--config", config, f"--config.seed={seed}", f"--workdir={folder}", *args.rest]
    return [sys.executable, "-m", "rbjax.main", *options]


def collect(args: argparse.Namespace) -> Values:
    """Reads the results of the runs that are there.

    Raises:
        ValueError: there is none, or the runs of a change differ in more than their seed.
    """
    values: Values = {}
    configs: dict[str, dict[str, Any]] = {}
    for change in args.changes:
        for seed in args.seeds:
            folder = workdir(args.out, change, seed)
            if not (folder / "results.json").is_file():
                continue
            config = json_files.read(folder / "config.json")
            if config.pop("seed") != seed or config != configs.setdefault(change, config):
                raise ValueError(
                    f"{folder} was trained with other settings than the other seeds of {change!r}: "
                    "remove it, or give another --out"
                )
            row = json_files.read(folder / "results.json")["rows"].get(ROW, {})
            cells = {name: row.get(name) for name in COLUMNS}
            values.setdefault(change, {})[seed] = {
                name: None if cell is None else cell["mean"] for name, cell in cells.items()
            }
    if not values:
        raise ValueError(f"{args.out} holds no finished run of these changes and seeds")
    return values


def summary(values: dict[int, dict[str, float | None]], column: str) -> list[float] | None:
    """Returns mean, lowest and highest over seeds; None if a seed has no value."""
    found = [row[column] for row in values.values()]
    numbers = [value for value in found if value is not None]
    if len(numbers) < len(found):
        return None
    return [float(np.mean(numbers)), min(numbers), max(numbers)]


def table(values: Values) -> str:
    """Returns the table in Markdown: percent, mean over seeds with the lowest and the highest."""
    lines = [
        "| change | seeds | " + " | ".join(map(label, COLUMNS)) + " |",
        "| --- " * (len(COLUMNS) + 2) + "|",
    ]
    for change, by_seed in values.items():
        cells = []
        for column in COLUMNS:
            found = summary(by_seed, column)
            mean, low, high = (100 * value for value in found or [0.0] * 3)
            cells.append("–" if found is None else f"{mean:.1f} ({low:.1f} to {high:.1f})")
        lines.append(f"| {change} | {len(by_seed)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(values: Values) -> Figure:
    """Returns a panel a column: a dot a seed, a line at their mean."""
    figure = Figure(figsize=(10.5, 1.6 + 0.5 * len(values)), dpi=130, layout="constrained")
    axes = figure.subplots(1, len(COLUMNS), sharey=True)
    for axis, column in zip(axes, COLUMNS, strict=True):
        for place, by_seed in enumerate(values.values()):
            found = [row[column] for row in by_seed.values() if row[column] is not None]
            numbers = 100 * np.array(found, float)
            axis.plot(numbers, [place] * len(numbers), "o", color="#2563eb", alpha=0.6, ms=4)
            if len(numbers):
                axis.plot([numbers.mean()] * 2, [place - 0.3, place + 0.3], color="#334155")
        axis.set_title(label(column), fontsize=8)
        axis.set(xlim=(min(-2, axis.get_xlim()[0]), 102), ylim=(len(values) - 0.5, -0.5))
        axis.grid(axis="x", color="#e2e8f0")
    axes[0].set_yticks(range(len(values)), list(values), fontsize=8)
    return figure


def write(out: Path, values: Values, *, command: list[str]) -> None:
    """Writes table.md, table.json and ablations.png."""
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    record = {
        "command": " ".join(command),
        "seeds": seeds,
        "device": _device(),
        "values": {
            change: {str(s): row for s, row in rows.items()} for change, rows in values.items()
        },
    }
    (out / "table.json").write_text(json.dumps(record, indent=1) + "\n")
    told = f"\n`{record['command']}`, seeds {seeds}, {record['device']}\n"
    (out / "table.md").write_text(table(values) + told)
    plot(values).savefig(out / "ablations.png")


def _device() -> str:
    """Returns the device's name; JAX is asked only now, when no run needs the device any more."""
    import jax

    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"CPU, {platform.machine()}"
    return f"{jax.device_count()} x {device.device_kind}"


if __name__ == "__main__":
    main()
