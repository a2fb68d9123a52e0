"""Whether a file fits on the disk; a memory map that does not would end the process silently."""

import shutil

from rbjax.storage import StoredPath, is_remote


def check(path: StoredPath, size: int, remedy: str) -> None:
    """Checks that a file or folder of `size` bytes can be made at `path`; a bucket has room.

    Raises:
        OSError: there is less room; the message gives the remedy.
    """
    if is_remote(path):
        return
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise OSError(
            f"{path} needs {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free: make room, or "
            f"{remedy}"
        )
