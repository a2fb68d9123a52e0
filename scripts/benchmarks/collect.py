"""Measures the collection from metadata, by number of posts.

    python -m scripts.benchmarks.collect --posts 60000 600000

Prints a table: seconds on the clock and of processors for each step, microseconds a record, and the
peak memory of the process that holds the index (while it collects) and of the largest worker. The
splits contain the outfits, which are found again for them. Metadata is made by
synthetic_danbooru.py (not timed). `--largest 50000` gives one character that many posts.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from joblib.externals.loky import get_reusable_executor

from rbjax.data import references
from scripts.benchmarks import synthetic_danbooru
from tfds_retribooru import clusters as clusters_lib
from tfds_retribooru.building import annotations, splits
from tfds_retribooru.collect import candidates, output, run_local
from tfds_retribooru.collect.settings import Settings

TASK, FACES, CLOTHES, DRAWS = "composition", 2, 2, 50_000


class Steps:
    """Seconds of each step: clock, processors (children that have ended too), records."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, int]] = []
        self._last = time.perf_counter(), sum(os.times()[:4])

    def done(self, name: str, records: int) -> None:
        """Ends a step that handled so many records."""
        now = time.perf_counter(), sum(os.times()[:4])
        clock, processors = np.subtract(now, self._last)
        self.rows.append((name, float(clock), float(processors), records))
        self._last = now


def measure(folder: pathlib.Path, workers: int) -> dict:
    """Runs the steps of `run_local.collect` and of what follows it, one by one."""
    metadata = tuple(sorted(map(str, (folder / "meta").glob("*.json"))))
    settings = Settings(metadata, folder / "out", workers=workers)
    (folder / "spool").mkdir()
    (settings.out / output.DROPPED_FILE).parent.mkdir(parents=True)
    steps = Steps()
    parts = list(run_local.screen(settings, folder / "spool"))
    get_reusable_executor().shutdown()  # workers are measured when they have ended
    posts = sum(len(part.id) + len(part.dropped_id) for part in parts)
    steps.done("metadata -> candidates", posts)
    index = candidates.join(parts, sorted(settings.criteria.vocabulary))
    run_local.drop_duplicates(index)
    steps.done("copies", index.size)
    partners = run_local.find_partners(index, settings.rule, answers=None, hashes={})
    steps.done("characters and outfits", index.size)
    output.write_annotations(settings.out, parts, index=index, partners=partners, boxes={})
    counts = output.write_dropped(settings.out, parts, index.drop_code)
    steps.done("writing", posts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = ("all of the collection", *(sum(row[k] for row in steps.rows) for k in (1, 2)), posts)
    steps.rows.append(total)
    columns = _read(settings.out)
    steps.done("annotations -> records", len(columns[0]))
    clusters = clusters_lib.from_records(*columns)
    steps.done("clusters", len(clusters))
    splits.assign(*columns)
    steps.done("splits", len(clusters))
    rng = np.random.default_rng(0)
    for target in rng.integers(len(clusters), size=DRAWS).tolist():
        references.choose(clusters, target, task=TASK, faces=FACES, clothes=CLOTHES, rng=rng)
    steps.done("references", DRAWS)
    workers_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    largest = int(np.bincount(index.character).max())
    return {
        "posts": posts,
        "kept": counts["kept"],
        "largest": largest,
        "rows": steps.rows,
        "peak": peak / 2**20,
        "worker_peak": workers_peak / 2**20,
    }


def _read(out: pathlib.Path) -> tuple[list[str], list[str], list[tuple[str, ...]]]:
    """(ids, characters, similars) of all annotations, as the builder reads them."""
    ids, characters, similars = [], [], []
    for record in annotations.read(annotations.files(out)):
        ids.append(record.id)
        characters.append(record.character)
        similars.append(record.similar)
    return ids, characters, similars


def show(result: dict) -> None:
    """Prints the table of one number of posts."""
    print(
        f"\n{result['posts']:,} posts, {result['kept']:,} collected, largest character "
        f"{result['largest']:,} candidates; peak {result['peak']:.2f} GiB, largest worker "
        f"{result['worker_peak']:.2f} GiB\n"
    )
    print("| step | records | clock s | processor s | µs / record (processor) | records / s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, clock, processors, records in result["rows"]:
        each = 1e6 * max(processors, 0.01) / records  # the clock of processors ticks so
        print(
            f"| {name} | {records:,} | {clock:.1f} | {processors:.1f} | {each:.1f} | "
            f"{1e6 / each:,.0f} |"
        )


def main(argv: list[str] | None = None) -> None:
    """Runs the command; every size in a process of its own, so that its peak is its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--posts", type=int, nargs="+", default=[60_000, 600_000])
    parser.add_argument("--largest", type=int, default=synthetic_danbooru.LARGEST)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", help="for temporary files (default: the system's)")
    parser.add_argument("--measure", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        print(json.dumps(measure(args.measure, args.workers)))
        return
    for posts in args.posts:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = pathlib.Path(name)
            files = max(4, posts // 50_000)
            synthetic_danbooru.write(folder / "meta", posts, files=files, largest=args.largest)
            command = [
                sys.executable,
                "-m",
                "scripts.benchmarks.collect",
                "--measure",
                name,
                "--workers",
                str(args.workers),
            ]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            show(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
