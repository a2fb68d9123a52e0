"""A function applied to a stream of items on threads."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import joblib

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yields function(item) of all items in order, on as many threads as there are cores.

    Pillow frees the interpreter while it works. A few items wait at a time, so that memory does
    not grow with their number (`Executor.map` and joblib's generators read all items at once).
    """
    threads = joblib.cpu_count()
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(lambda item: pool.submit(function, item), items, most=4 * threads)


def in_order(submit: Callable[[T], Future[R]], items: Iterable[T], *, most: int) -> Iterator[R]:
    """Submits items and yields their results in order; not more than `most` wait at a time."""
    waiting: collections.deque[Future[R]] = collections.deque()
    try:
        for item in items:
            waiting.append(submit(item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
