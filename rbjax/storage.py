"""Folders that lie on this machine, or in a bucket of Google Cloud Storage (gs://BUCKET/FOLDER).

A bucket has neither folders nor locks, an object in it is written at once or not at all.
"""

import contextlib
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
from etils import epath
from tensorflow_datasets.core.utils import incomplete_file

from rbjax.command_line import local_path

# Otherwise gcsfs keeps listings, and does not see what other processes of a run write.
fsspec.config.conf.setdefault("gs", {})["use_listings_cache"] = False

StoredPath = Path | epath.Path
BUCKET = "gs://"
_PLAIN = re.compile(r"gs://[a-z\d][a-z\d_.-]{2,62}(/[\w ,=+@-][\w .,=+@-]*)+/?", re.ASCII)


def stored_path(text: str | StoredPath, option: str) -> StoredPath:
    """Returns the path of a folder of this machine, `~` expanded, or of a bucket.

    Args:
        text: the path as the user gave it.
        option: that it was given to, for the error.

    Raises:
        ValueError: another URL, or a name that a library would read as something else.
        ModuleNotFoundError: what reads buckets is not installed.
    """
    if not str(text).startswith(BUCKET):
        path = local_path(text, option)
        if is_remote(epath.Path(path.absolute())):  # `/gs/...`
            raise ValueError(f"{option}={text}: etils takes a folder in /gs for a bucket")
        return path
    if not _PLAIN.fullmatch(str(text)):
        raise ValueError(
            f"{option}={text}: give gs://BUCKET/FOLDER; TensorStore reads other characters than "
            "letters, digits, spaces and . , = + @ _ - in the name as patterns"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise ModuleNotFoundError(
            f"{option}={text}: gcsfs is not installed: pip install 'rbjax[gcs]', or give a folder "
            "of this machine"
        )
    return epath.Path(text)


def is_remote(path: StoredPath) -> bool:
    """Returns whether a path lies in a bucket."""
    return str(path).startswith(BUCKET)


def make_folder(path: StoredPath) -> None:
    """Makes a folder and those above it; a bucket needs none."""
    if not is_remote(path):
        path.mkdir(parents=True, exist_ok=True)


def remove_folder(path: StoredPath) -> None:
    """Removes a folder, if it is there, and all in it."""
    if isinstance(path, Path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.rmtree(missing_ok=True)


def move_folder(path: StoredPath, target: StoredPath) -> None:
    """Renames a folder; in a bucket its files are copied, the folder is then removed."""
    if isinstance(path, Path):
        path.rename(target)
        return
    for file in files(path):
        epath.Path(file).copy(target / file.relative_to(path))
    remove_folder(path)


@contextlib.contextmanager
def local_copy(path: StoredPath) -> Iterator[Path]:
    """Yields a file or folder, or of one in a bucket a copy that lasts as long as the block."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rbjax-") as name:
        copy = Path(name) / path.name  # errors name it
        for file in files(path) if path.is_dir() else (path,):
            target = copy / file.relative_to(path).as_posix()
            target.parent.mkdir(parents=True, exist_ok=True)
            epath.Path(file).copy(target)
        yield copy


@contextlib.contextmanager
def local_output(folder: StoredPath) -> Iterator[Path]:
    """Yields a folder of this machine to write in, whose files are put into `folder` afterwards.

    Nothing is put there if the block raises. A folder of this machine is yielded itself.

    Raises:
        FileExistsError: a folder in a bucket holds files.
    """
    if isinstance(folder, Path):
        yield folder
        return
    if folder.exists() and next(files(folder), None) is not None:
        raise FileExistsError(f"{folder} is not empty: name another folder")
    with tempfile.TemporaryDirectory(prefix="rbjax-") as name:
        partial = Path(name) / folder.name
        yield partial
        for file in files(partial):
            (folder / file.relative_to(partial).as_posix()).write_bytes(file.read_bytes())


def write_text(path: StoredPath, text: str) -> None:
    """Writes a text file at once: a process that is killed leaves the old one or the new one."""
    if is_remote(path):
        path.write_text(text)
        return
    with incomplete_file(epath.Path(path)) as partial:
        partial.write_text(text)


def files(folder: StoredPath) -> Iterator[StoredPath]:
    """Yields the files in a folder and in those below it, by name."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from files(path)
        else:
            yield path
