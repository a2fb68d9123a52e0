"""Files that are there whole or not at all."""

import contextlib
import pathlib
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def written(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields another name in the same directory to write under; it becomes `path` at the end.

    If the block raises, what it wrote is removed. Each caller gets a name of its own, so two
    processes may write one file at the same time.
    """
    partial = path.with_name(f"{path.name}-{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
