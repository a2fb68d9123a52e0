"""The frozen parameters of a run: one copy beside its checkpoints, whose checksums cover it too.

A checkpoint of an older version holds them itself.
"""

import pathlib

import orbax.checkpoint as ocp
from etils import epath

from rbjax.models.params import Tree
from rbjax.parallel import distributed
from rbjax.train import checkpoint_files

FOLDER = "frozen"


def exists(folder: pathlib.Path) -> bool:
    """Returns whether the copy in a folder of checkpoints is complete."""
    return (folder / FOLDER / checkpoint_files.CHECKSUMS).exists()


def save(folder: pathlib.Path, frozen: Tree) -> None:
    """Writes the copy, unless it is there and belongs to a checkpoint.

    Args:
        folder: of the checkpoints.
        frozen: parameters; nothing is written where there are none.
    """
    if not frozen:
        return

    def found() -> str:
        return "found" if exists(folder) and checkpoint_files.steps(folder) else ""

    if distributed.from_primary(found):
        return
    with checkpoint_files.orbax_path(folder) as path, ocp.StandardCheckpointer() as writer:
        writer.save(path / FOLDER, frozen, force=True)
    if distributed.is_primary():
        checkpoint_files.write_checksums(folder / FOLDER)


def restore(folder: pathlib.Path, abstract: Tree) -> Tree:
    """Reads the copy.

    Args:
        folder: of the checkpoints.
        abstract: shapes, dtypes and shardings.
    """
    if not abstract:
        return abstract
    with checkpoint_files.orbax_path(folder) as path, ocp.StandardCheckpointer() as reader:
        return reader.restore(path / FOLDER, abstract)


def is_inside(folder: pathlib.Path, step: int) -> bool:
    """Returns whether a checkpoint holds the frozen parameters itself."""
    with checkpoint_files.orbax_path(folder) as path:
        saved = epath.Path(path / str(step) / "state")
        found = ocp.PyTreeCheckpointHandler().metadata(saved)
    return bool(found.tree.get("frozen"))
