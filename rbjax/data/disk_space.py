"""Whether a file fits on the disk; a memory map that does not would end the process silently."""

import pathlib
import shutil


def check(path: pathlib.Path, size: int, remedy: str) -> None:
    """Checks that a file or folder of `size` bytes can be made at `path`.

    Raises:
        OSError: there is less room; the message gives the remedy.
    """
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise OSError(
            f"{path} needs {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free: make room, or "
            f"{remedy}"
        )
