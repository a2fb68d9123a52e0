"""One build of a data set at a time, and no leftovers of builds that were killed."""

import contextlib
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Iterator

try:
    import fcntl
except ModuleNotFoundError:  # not a Unix
    fcntl = None

_INCOMPLETE = r"incomplete\.[A-Z0-9]{6}_"  # of tensorflow_datasets, before the version


@contextlib.contextmanager
def build_lock(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Holds the lock of a data set; waits while another process has it.

    The lock is a file beside the data set that goes with the build. The system frees it when its
    process ends, however that ends. Under the lock, what killed builds left behind is removed.

    Args:
        directory: of the data set's version; it need not exist.
    """
    path = pathlib.Path(directory)
    file = None if "://" in os.fspath(directory) else _acquire(path)
    if file is None:
        warnings.warn(
            f"{directory} cannot be locked: start one build of it at a time", stacklevel=3
        )
    try:
        if file is not None:
            _remove_leftovers(path)
        yield
    finally:
        if file is not None:
            _file_of(path).unlink(missing_ok=True)
            os.close(file)


def _file_of(directory: pathlib.Path) -> pathlib.Path:
    return directory.with_name(f".{directory.name}.lock")


def _acquire(directory: pathlib.Path) -> int | None:
    """Returns the descriptor of the locked file; None where the system has no such locks."""
    if fcntl is None:
        return None
    path = _file_of(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_waiting = False
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX if is_waiting else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            is_waiting = True
            print(f"Another process builds {directory}: waiting for it.", flush=True)
            continue
        except OSError:  # the file system has none
            os.close(file)
            path.unlink(missing_ok=True)
            return None
        if _is_at(file, path):
            return file
        os.close(file)  # who had the lock has removed the file


def _is_at(file: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _remove_leftovers(directory: pathlib.Path) -> None:
    pattern = re.compile(_INCOMPLETE + re.escape(directory.name))
    for path in directory.parent.iterdir():
        if pattern.fullmatch(path.name):
            shutil.rmtree(path)
