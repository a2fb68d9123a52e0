"""The frozen parameters of a run: one copy beside its checkpoints, whose checksums cover it too.

Each checkpoint has a digest of their values: where the copy is damaged it is made again from what
the run started with, if that gives the same. Checkpoints of older versions have no digest, or hold
the parameters themselves.
"""

import hashlib
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from rbjax.experiment import workdir as workdir_lib
from rbjax.interop import json_files
from rbjax.models.params import Tree
from rbjax.parallel import distributed
from rbjax.storage import StoredPath
from rbjax.train import checkpoint_files

FOLDER = "frozen"
DIGEST = "frozen_digest"  # in a checkpoint, and in the copy: {"sha256": of the values}


def exists(folder: StoredPath) -> bool:
    """Returns whether the copy in a folder of checkpoints is complete."""
    return (folder / FOLDER / checkpoint_files.CHECKSUMS).exists()


def save(folder: StoredPath, frozen: Tree) -> str:
    """Writes the copy, unless it is there and belongs to a checkpoint; returns its digest.

    Args:
        folder: of the checkpoints.
        frozen: parameters; nothing is written, and "" returned, where there are none.
    """
    if not frozen:
        return ""

    def found() -> str:
        return "found" if exists(folder) and checkpoint_files.steps(folder) else ""

    if not distributed.from_primary(found):
        _write(folder, frozen)
    path = folder / FOLDER / DIGEST
    if not distributed.from_primary(lambda: "noted" if path.exists() else ""):  # an older copy
        workdir_lib.write_text(path, digest(frozen))
    return distributed.from_primary(path.read_text)


def _write(folder: StoredPath, frozen: Tree) -> None:
    with checkpoint_files.orbax_path(folder) as path, ocp.StandardCheckpointer() as writer:
        writer.save(path / FOLDER, frozen, force=True)
    workdir_lib.write_text(folder / FOLDER / DIGEST, digest(frozen))
    if distributed.is_primary():
        checkpoint_files.write_checksums(folder / FOLDER)


def digest(frozen: Tree) -> str:
    """Returns the SHA-256 of names, types, shapes and values, however the arrays are split."""
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(frozen):
        array = np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def mend(folder: StoredPath, make: Callable[[], Tree], *, is_start_known: bool = False) -> None:
    """Writes the copy again where it is damaged or missing.

    Args:
        folder: of the checkpoints.
        make: returns the frozen parameters with which the run began.
        is_start_known: whether the weights that it began with are compared already; where no
            checkpoint has a digest, that is enough.

    Raises:
        ValueError: it cannot be told that those are the parameters that were saved.
    """

    def find_damage() -> str:
        newest = next(iter(_users(folder)), None)  # the others have the same copy
        return checkpoint_files.find_damage(newest, f"../{FOLDER}/") if newest else ""

    damage = distributed.from_primary(find_damage)
    if not damage:
        return
    logging.warning("the run's frozen parameters are damaged (%s): they are made again", damage)
    frozen = make()
    known = distributed.from_primary(lambda: " ".join(_users(folder).values())).split()
    if digest(frozen) not in known and (known or not is_start_known):
        raise ValueError(
            f"the frozen parameters of this run are lost: {damage}. Those that it would start with "
            f"now are not known to be the same. What it trained is intact in {folder}, and of no "
            f"use without them: put a copy of {folder / FOLDER} back, or start anew in another "
            "--workdir"
        )
    _write(folder, frozen)
    if distributed.is_primary():
        for checkpoint in _users(folder):
            checkpoint_files.renew_checksums(checkpoint, FOLDER)
    values = "with the values that it had" if known else "from the weights that the run began with"
    print(f"{folder / FOLDER} is made again, {values}.", flush=True)


def _users(folder: StoredPath) -> dict[StoredPath, str]:
    """Returns the digest that each checkpoint has of the copy ("" = none), the newest first.

    Without those whose digest or checksums are damaged, or that need no copy.
    """
    found = {}
    for step in checkpoint_files.steps(folder):
        path = folder / str(step)
        if _names_copy(path) and not checkpoint_files.find_damage(path, DIGEST):
            note = path / DIGEST / "metadata"
            found[path] = json_files.read(note)["sha256"] if note.exists() else ""
    return found


def _names_copy(checkpoint: StoredPath) -> bool:
    """Returns whether a checkpoint's checksums, if they can be read, are also of the copy."""
    path = checkpoint / checkpoint_files.CHECKSUMS
    try:
        sums = json_files.read(path) if path.exists() else {}
    except ValueError:
        return False
    return any(name.startswith(f"../{FOLDER}/") for name in sums)


def restore(folder: StoredPath, abstract: Tree) -> Tree:
    """Reads the copy.

    Args:
        folder: of the checkpoints.
        abstract: shapes, dtypes and shardings.
    """
    if not abstract:
        return abstract
    with checkpoint_files.orbax_path(folder) as path, ocp.StandardCheckpointer() as reader:
        return reader.restore(path / FOLDER, abstract)


def is_inside(folder: StoredPath, step: int) -> bool:
    """Returns whether a checkpoint holds the frozen parameters itself."""
    with checkpoint_files.orbax_path(folder) as path:
        saved = epath.Path(path / str(step) / "state")
        found = ocp.PyTreeCheckpointHandler().metadata(saved)
    return bool(found.tree.get("frozen"))
