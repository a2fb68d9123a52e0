"""Time from the start of `python -m rbjax.demo` to the page, and from a click to an image.

    python -m scripts.benchmarks.demo_page [--checkpoint DIR] [--prompts 5]

The command is started twice: with an empty compilation cache, and with what the first left there.
Each time headless Chromium opens the page, clicks "Generate" for one image of two references, and
again with other prompts and seeds; what XLA compiles after the page is open is counted. Needs
`pip install -e '.[test]'` and Chromium.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TAGS = ("smile", "frown", "open mouth", "clenched teeth", "wink")
COLORS = ("blue", "pink", "green", "red", "yellow", "orange")
COMPILED = re.compile(r"Finished XLA compilation of (\S+)")
WAIT = 300_000  # milliseconds at most


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--checkpoint", help="as of rbjax.demo (default: the shipped model)")
    add("--prompts", type=int, default=5, help="images after the first one")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    args = parse_args(argv)
    options = ["--checkpoint", args.checkpoint] if args.checkpoint else []
    print(f"{len(os.sched_getaffinity(0))} CPU core(s); seconds")
    titles = ("cache", "to the page", "page open", "first image", "next, median", "largest")
    print("".join(f"{title:>14}" for title in titles) + "  compiled after")
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty", "filled"):
            cells, compiled = measure(options, cache, args.prompts)
            row = "".join(f"{cell:14.2f}" for cell in cells)
            print(f"{name:>14}{row}  {', '.join(compiled) or 'nothing'}", flush=True)


def measure(options: Sequence[str], cache: str, prompts: int) -> tuple[list[float], list[str]]:
    """Returns seconds (see `main`) of one start, and what was compiled once the page was open."""
    start = time.perf_counter()
    with served(options, cache) as server, browser_page() as page:
        until_page = time.perf_counter() - start
        start = time.perf_counter()
        page.goto(server.address)
        page.wait_for_selector(".rb-mark")
        page.fill("input[aria-label='number input for Images']", "1")
        page.keyboard.press("Tab")
        opened = time.perf_counter() - start
        server.compiled.clear()
        times = [image(page, prompt_of(number)) for number in range(1 + prompts)]
        compiled = list(server.compiled)
    rest = times[1:]
    return [until_page, opened, times[0], statistics.median(rest), max(rest)], compiled


def image(page: "Page", prompt: str) -> float:
    """Returns the seconds from the click to the image, its answers and its map."""
    page.fill("#rb-prompt-input", prompt)
    page.keyboard.press("Escape")
    start = time.perf_counter()
    page.click("#generate")
    page.wait_for_function(
        "prompt => document.querySelector('.rb-made')?.alt.endsWith(prompt)", arg=prompt
    )
    return time.perf_counter() - start


def prompt_of(number: int) -> str:
    """Returns the prompt of an image; the next ones are others."""
    tag, color = TAGS[number % len(TAGS)], COLORS[number % len(COLORS)]
    return f"{tag}, {color} background"


@dataclasses.dataclass
class Server:
    """The command that runs.

    Attributes:
        address: of the page.
        compiled: names of the programs that XLA compiled; grows.
    """

    address: str
    compiled: list[str]


@contextlib.contextmanager
def served(options: Sequence[str], cache: str) -> Iterator[Server]:
    """Runs the command until the block ends."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_LOG_COMPILES": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rbjax.demo", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        compiled: list[str] = []
        last: list[str] = []
        threading.Thread(
            target=read_log, args=(process.stderr, compiled, last), daemon=True
        ).start()
        yield Server(read_address(process, last), compiled)
    finally:
        process.terminate()
        process.wait()


def read_log(log: IO[str], compiled: list[str], last: list[str]) -> None:
    """Notes the programs that were compiled, and the last lines."""
    for line in log:
        last[:] = [*last[-20:], line]
        compiled.extend(COMPILED.findall(line))


def read_address(process: subprocess.Popen, last: list[str]) -> str:
    """Waits for the page's address.

    Raises:
        RuntimeError: the command has ended.
    """
    for line in process.stdout:
        if found := re.search(r"Open (http\S+)", line):
            return found[1]
    raise RuntimeError(f"rbjax.demo has ended: {''.join(last)}")


@contextlib.contextmanager
def browser_page() -> Iterator["Page"]:
    """Yields an empty page of a headless Chromium."""
    from playwright.sync_api import sync_playwright  # optional

    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(WAIT)
        yield page
        browser.close()


if __name__ == "__main__":
    main()
