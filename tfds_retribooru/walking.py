"""Folders in a folder: through links too, but never in a circle."""

import os
import pathlib
from collections.abc import Iterable, Iterator


def subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders in a folder that may be read and are not hidden, ordered by name.

    Links count, but those that lead to the folder itself or to one around it.
    """
    return [path for path in _folders(folder) if _is_open(path)]


def closed(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders in a folder that may not be read, such as `lost+found` of a disk."""
    return [path for path in _folders(folder) if not _is_open(path)]


def walk(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, list[str]]]:
    """Yields a folder and those below it, and the sorted names of their files.

    Hidden ones are left out, such as macOS's `._1.jpg` beside `1.jpg`. Each folder is yielded once,
    whatever links lead to it. Links to no folder count as files.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else _shown(folders)
        if real not in seen:
            yield pathlib.Path(place), _shown(names)
        seen.add(real)


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and _is_folder(e)]
    return [folder / name for name in sorted(names)]


def _is_open(folder: pathlib.Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _shown(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith("."))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        if not entry.is_dir():
            return False
    except OSError:  # links in a circle
        return False
    around = pathlib.Path(os.path.realpath(os.path.dirname(entry.path)))
    return not (entry.is_symlink() and around.is_relative_to(os.path.realpath(entry.path)))
