"""Folders of checkpoints: paths that Orbax can use, and checksums that tell a damaged one."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator

from rbjax.experiment import workdir as workdir_lib
from rbjax.interop import json_files

CHECKSUMS = "checksums.json"  # in a checkpoint: SHA-256 of its other files
PLAIN = re.compile(r"[\w ./,=+@%-]*", re.ASCII)


@contextlib.contextmanager
def orbax_path(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields an absolute path of a folder that means the same folder to Orbax.

    Orbax 0.12 takes the path for a pattern when it merges the files of a checkpoint ([ ] * ?), and
    TensorStore a backslash for a slash. Such a folder is reached through a link that lasts as long
    as the block.
    """
    folder = folder.resolve()
    if PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="rbjax-") as parent:
        link = pathlib.Path(parent) / "checkpoints"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def steps(folder: pathlib.Path) -> list[int]:
    """Returns the steps of the finished checkpoints, the newest first."""
    return sorted((int(p.name) for p in folder.glob("*") if p.name.isdigit()), reverse=True)


def write_checksums(checkpoint: pathlib.Path) -> None:
    """Writes the checksums of a checkpoint, once it is finished."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    sums = {path.relative_to(checkpoint).as_posix(): _checksum(path) for path in files}
    workdir_lib.write_text(checkpoint / CHECKSUMS, json.dumps(sums, indent=1))


def find_damage(checkpoint: pathlib.Path) -> str:
    """Returns what is wrong with a checkpoint's files; "" = nothing, or it has no checksums."""
    path = checkpoint / CHECKSUMS
    if not path.exists():
        return ""
    try:
        for name, expected in json_files.read(path).items():
            if _checksum(checkpoint / name) != expected:
                return f"{checkpoint / name} is not what was saved"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read: {error}"
    return ""


def set_aside(checkpoint: pathlib.Path) -> pathlib.Path:
    """Renames a damaged checkpoint, so that its step can be saved again; returns its new path."""
    prefix = f"{checkpoint.name}.damaged-"
    path = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=checkpoint.parent))
    os.replace(checkpoint, path)
    return path


def _checksum(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
