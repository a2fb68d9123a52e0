"""Measures how long a training takes to start, part by part, up to the end of its first update.

    python -m scripts.benchmarks.start --config configs/composition.py:smoke

Starts it twice in a new working directory. The first start makes what others find: the data set,
images and latents beside it, compiled programs (in JAX_COMPILATION_CACHE_DIR). Options that are not
known here go to rbjax.main.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app

from rbjax.command_line import ArgumentParser, parse_flags, set_environment

COMPILED = "/jax/core/compile/backend_compile_duration"  # events of JAX, also where it was found
FOUND = "/jax/compilation_cache/cache_hits"


class Clock:
    """The seconds of parts that follow each other: on the clock, and of this process's threads.

    Args:
        began: when the first began, of `time.time`.
    """

    def __init__(self, began: float) -> None:
        self.parts: dict[str, tuple[float, float]] = {}
        self._last = began, 0.0

    def end(self, part: str) -> None:
        """Ends a part; the next one begins."""
        now = time.time(), time.process_time()
        self.parts[part] = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now

    def ended_by(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, whose return is the end of a part."""

        def call(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            self.end(part)
            return result

        return call


def measure(options: list[str], began: float) -> dict[str, Any]:
    """Starts a training in this process, and ends it after its first update.

    Args:
        options: of rbjax.main.
        began: when this process was started, of `time.time`.

    Returns:
        "parts", seconds of each on the clock and of processors, and the numbers of programs that
        were "compiled" and "found" in the cache.
    """
    set_environment()  # before JAX is imported
    import jax

    from rbjax import main as command
    from rbjax.train import loop

    clock, events = Clock(began), collections.Counter()
    clock.end("imports")
    jax.monitoring.register_event_listener(lambda name, **_: events.update([name]))
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: events.update([name])
    )
    jit_update = loop.jit_update

    def timed_update(*args: Any) -> Callable[..., NoReturn]:
        update = jit_update(*args)

        def call(*operands: Any) -> NoReturn:
            clock.end("first batch")
            lowered = update.trace(*operands).lower()
            clock.end("tracing the update")
            compiled = lowered.compile()
            clock.end("compiling it, or reading it")
            jax.block_until_ready(compiled(*operands))
            clock.end("the update")
            sys.exit()

        return call

    loop.jit_update = timed_update
    loop.setup_lib.setup = clock.ended_by("devices, data set", loop.setup_lib.setup)
    loop._batches = clock.ended_by("training's split and caches", loop._batches)
    loop._start = clock.ended_by("parameters", loop._start)
    loop.Evaluator.create = clock.ended_by("evaluation's split, models", loop.Evaluator.create)
    try:
        app.run(command.main, argv=["rbjax.main", *options], flags_parser=parse_flags)
    except SystemExit as error:
        if error.code:
            raise
    found = events[FOUND]
    return {"parts": clock.parts, "compiled": events[COMPILED] - found, "found": found}


def start(options: list[str], folder: pathlib.Path) -> dict[str, Any]:
    """Runs `measure` in a process of its own.

    Raises:
        RuntimeError: the training did not come to its first update; holds what it printed.
    """
    result = folder / "measured.json"
    command = [sys.executable, "-m", "scripts.benchmarks.start", f"--measure={result}"]
    command += [f"--began={time.time()}", f"--workdir={folder / 'run'}", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"the training did not start:\n{done.stdout}")
    return json.loads(result.read_text())


def table(starts: list[dict[str, Any]]) -> str:
    """Returns the lines of what the starts measured, side by side."""
    found = [each["parts"] for each in starts]
    rows = {part: [parts[part] for parts in found] for part in found[-1]}
    rows["all"] = [[sum(column) for column in zip(*p.values(), strict=True)] for p in found]
    lines = [
        "| part | first start: clock, s | processors, s | second: clock, s | processors, s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, measured in rows.items():
        cells = (f"{seconds:.1f}" for pair in measured for seconds in pair)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    programs = [f"{each['compiled']} compiled, {each['found']} found" for each in starts]
    lines.append(f"\nPrograms: {' at the first start, '.join(programs)} at the second.")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    args, options = parser.parse_known_args(argv)
    if args.measure:
        args.measure.write_text(json.dumps(measure(options, args.began)))
        return
    with tempfile.TemporaryDirectory() as name:
        starts = [start(options, pathlib.Path(name)) for _ in range(2)]
    print(table(starts))


if __name__ == "__main__":
    main()
