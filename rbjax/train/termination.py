"""SIGTERM while training: what has to be finished is finished, then the program ends with 143."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


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
    """Handles SIGTERM in a block, and says so where the signal ends it; in the main thread only."""
    termination = Termination()
    if threading.current_thread() is not threading.main_thread():
        yield termination
        return
    before = signal.signal(signal.SIGTERM, termination.receive)
    try:
        yield termination
    except Terminated:
        print("Stopped by SIGTERM; the same command goes on.", file=sys.stderr, flush=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
