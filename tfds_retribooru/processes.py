"""A function applied to a stream of jobs by other processes, each of which may be killed."""

import itertools
import pathlib
import pickle
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from joblib.externals import loky

from tfds_retribooru import threads

_IDLE = 10  # seconds, after which a process that has nothing to do ends


def map_in_order(
    function: Callable[..., Any], jobs: Iterable[tuple], *, workers: int, batch: int = 1
) -> Iterator[Any]:
    """Yields function(*job) of all jobs in order, computed by processes if there are several.

    joblib's processes ("loky") are started afresh whatever the caller is: a script without a main
    guard, a notebook, a program with threads. Jobs and results lie in files: messages are so short
    that a pipe takes them at once. Of a process that is killed within a longer one, loky waits for
    the rest for ever.

    Args:
        function: is sent to the processes with each batch, so it should hold little.
        jobs: what it is applied to, read as they are needed.
        workers: number of processes; 1 = none, this one works.
        batch: jobs that a process is given at a time.

    Raises:
        ChildProcessError: a process ended early, for instance because there was no memory for it.
    """
    if workers <= 1:
        yield from itertools.starmap(function, jobs)
        return
    executor = loky.get_reusable_executor(max_workers=workers, timeout=_IDLE)
    with tempfile.TemporaryDirectory(prefix="jobs-", ignore_cleanup_errors=True) as folder:

        def submit(numbered: tuple[int, list[tuple]]) -> Future[pathlib.Path]:
            path = pathlib.Path(folder) / str(numbered[0])
            path.write_bytes(pickle.dumps(numbered[1]))
            return executor.submit(_run, function, path)

        numbered = enumerate(_batches(iter(jobs), batch))
        for path in _named_errors(threads.in_order(submit, numbered, most=4 * workers)):
            results = pickle.loads(path.read_bytes())
            path.unlink()
            yield from results


def _run(function: Callable[..., Any], path: pathlib.Path) -> pathlib.Path:
    """Replaces the jobs in a file by their results."""
    results = [function(*job) for job in pickle.loads(path.read_bytes())]
    path.write_bytes(pickle.dumps(results))
    return path


def _batches(jobs: Iterator[tuple], size: int) -> Iterator[list[tuple]]:
    while batch := list(itertools.islice(jobs, size)):
        yield batch


def _named_errors(paths: Iterator[pathlib.Path]) -> Iterator[pathlib.Path]:
    try:
        yield from paths
    except BrokenProcessPool as error:
        ended = " ".join(re.findall(r"\{.*\}", str(error)))  # exit codes
        raise ChildProcessError(
            f"a process ended early ({ended}): it was killed, or there was no memory for it"
        ) from error
