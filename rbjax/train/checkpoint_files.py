"""Folders of checkpoints: paths that Orbax can use, and checksums that tell a damaged one."""

import contextlib
import hashlib
import itertools
import json
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, TypeVar, cast

from absl import logging

from rbjax import storage
from rbjax.experiment import workdir as workdir_lib
from rbjax.interop import json_files
from rbjax.parallel import distributed
from rbjax.storage import StoredPath

CHECKSUMS = "checksums.json"  # in a checkpoint: SHA-256 of its other files, by relative path
REMEDY = (
    " The frozen parameters are also made again by the training's own command (of a finished run "
    "remove results.json first)."
)
PLAIN = re.compile(r"[\w ./,=+@%-]*", re.ASCII)
FINISHED = "commit_success.txt"  # Orbax's
T = TypeVar("T")


@contextlib.contextmanager
def orbax_path(folder: StoredPath) -> Iterator[StoredPath]:
    """Yields an absolute path of a folder that means the same folder to Orbax.

    Orbax 0.12 takes the path for a pattern when it merges the files of a checkpoint ([ ] * ?), and
    TensorStore a backslash for a slash. Such a folder is reached through a link that lasts as long
    as the block. The names of a bucket's folders are plain (`storage.stored_path`).
    """
    if storage.is_remote(folder):
        yield folder
        return
    folder = folder.resolve()
    if PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="rbjax-") as parent:
        link = pathlib.Path(parent) / "checkpoints"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def steps(folder: StoredPath) -> list[int]:
    """Returns the steps of the finished checkpoints, the newest first."""
    found = [path for path in folder.glob("*") if path.name.isdigit()]
    if storage.is_remote(folder):  # where nothing can be renamed, Orbax writes a mark last
        found = [path for path in found if (path / FINISHED).exists()]
    return sorted((int(path.name) for path in found), reverse=True)


def write_checksums(checkpoint: StoredPath, shared: str = "") -> None:
    """Writes the checksums of a checkpoint, once it is finished.

    Args:
        checkpoint: its folder.
        shared: folder beside it, with checksums, that it cannot be read without; "" = none.
    """
    found = storage.files(checkpoint)
    sums = {path.relative_to(checkpoint).as_posix(): _checksum(path) for path in found}
    if shared:
        sums |= _of_shared(checkpoint, shared)
    workdir_lib.write_text(checkpoint / CHECKSUMS, json.dumps(sums, indent=1))


def renew_checksums(checkpoint: StoredPath, shared: str) -> None:
    """Changes a checkpoint's checksums of a shared folder that was written again."""
    sums = json_files.read(checkpoint / CHECKSUMS)
    own = {name: value for name, value in sums.items() if not name.startswith(f"../{shared}/")}
    sums = own | _of_shared(checkpoint, shared)
    workdir_lib.write_text(checkpoint / CHECKSUMS, json.dumps(sums, indent=1))


def _of_shared(checkpoint: StoredPath, shared: str) -> dict[str, str]:
    sums = json_files.read(checkpoint.parent / shared / CHECKSUMS)
    return {f"../{shared}/{name}": value for name, value in sums.items()}


def read_newest(folder: StoredPath, read: Callable[[int], T]) -> tuple[int, T | None]:
    """Reads the newest checkpoint that is not damaged, and warns of those that are.

    Args:
        folder: of the checkpoints.
        read: reads that of a step.

    Returns:
        (step, what `read` returns of it), or (0, None) where there is no checkpoint.

    Raises:
        ValueError: there are checkpoints, but none can be read.
    """
    faults = []
    for step in steps(folder):
        path = folder / str(step)
        fault = distributed.from_primary(lambda path=path: find_damage(path))
        try:
            if not fault:
                return step, read(step)
        except Exception as error:  # of many types, for what a checkpoint may lack
            if (path / CHECKSUMS).exists():  # intact: it does not fit
                raise
            fault = f"{type(error).__name__}: {error}"
        faults.append(f"  step {step}: {fault}")
        logging.warning("the checkpoint %s is damaged, an older one is used: %s", path, fault)
    if faults:
        of_shared = any(find_damage(folder / str(step), "../") for step in steps(folder))
        raise ValueError(
            f"none of the checkpoints in {folder} can be read:\n"
            + "\n".join(faults)
            + "\nPut copies of them back, or start anew in another --workdir."
            + REMEDY * of_shared
        )
    return 0, None


def find_damage(checkpoint: StoredPath, prefix: str = "") -> str:
    """Returns what is wrong with a checkpoint's files; "" = nothing, or it has no checksums.

    Args:
        checkpoint: its folder.
        prefix: of the paths to look at, relative to it.
    """
    path = checkpoint / CHECKSUMS
    if not path.exists():
        return ""
    try:
        for name, expected in json_files.read(path).items():
            parent = checkpoint.parent if name.startswith("../") else checkpoint
            path = parent / name.removeprefix("../")
            if name.startswith(prefix) and _checksum(path) != expected:
                return f"{path} is not what was saved"
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read: {error}"
    return ""


def set_aside(checkpoint: StoredPath) -> StoredPath:
    """Renames a damaged checkpoint, so that its step can be saved again; returns its new path."""
    names = (f"{checkpoint.name}.damaged-{number}" for number in itertools.count(1))
    path = next(p for p in map(checkpoint.parent.joinpath, names) if not p.exists())
    storage.move_folder(checkpoint, path)
    return path


def _checksum(path: StoredPath) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := cast(IO[bytes], file).read(2**20):
            found.update(block)
    return found.hexdigest()
