"""SIGTERM while training: what has to be finished is finished, then the program ends with 143."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils


class Terminated(SystemExit):
    """The program was asked to end."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Termination:
    """Raises `Terminated` at SIGTERM, in a `deferred` block at its end; further ones do nothing."""

    def __init__(self) -> None:
        self._received = self._deferred = False

    def receive(self, *_: Any) -> None:
        """Handles the signal."""
        first, self._received = not self._received, True
        if first and not self._deferred:
            raise Terminated

    def check(self, step: int) -> None:
        """Raises `Terminated` after the same step in each of several processes, if one is to end.

        It has to be called after every step; a single process does without.
        """
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self._received = True
            raise Terminated

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Lets a block finish; nothing is raised where the block raises something itself."""
        before = self._received
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._received and not before:
            raise Terminated


@contextlib.contextmanager
def handled() -> Iterator[Termination]:
    """Handles SIGTERM in a block, and says so where the signal ends it; in the main thread only.

    Of several processes JAX takes the signal, and tells all of them: see `Termination.check`.
    """
    termination = Termination()
    alone = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, termination.receive) if alone else None
    try:
        yield termination
    except Terminated:
        print("Stopped by SIGTERM; the same command goes on.", file=sys.stderr, flush=True)
        raise
    finally:
        if alone:
            signal.signal(signal.SIGTERM, before)
