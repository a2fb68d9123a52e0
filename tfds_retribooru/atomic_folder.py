"""Folders that are complete or not there, as TFDS's `incomplete_file` does for one file."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def replace(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a folder beside `folder` to write in, which takes its place if the block succeeds.

    Until then `folder` stays as it was. What a killed process left is removed first.
    """
    folder = folder.resolve()  # ".." and "." have no name; a link stays
    partial, old = (folder.with_name(f".{folder.name}.{end}") for end in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)  # faster than to remove it: there is hardly a moment without one
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
