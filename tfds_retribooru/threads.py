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
        waiting: collections.deque[Future[R]] = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
