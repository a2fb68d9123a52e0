"""The state of a training that was ended, in one file."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def save(path: Path, state: Any, count: int) -> None:
    """Writes a state after `count` updates; the file is whole or not there."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    partial_path = path.with_name(f"incomplete.{path.name}")
    np.savez(partial_path, np.array(count), *leaves)
    partial_path.replace(path)


def restore(path: Path, state: Any) -> tuple[int, Any]:
    """Returns the number of updates and the state that `save` wrote.

    Raises:
        ValueError: it is of other settings than `state`.
    """
    leaves, tree = jax.tree.flatten(state)
    with np.load(path) as file:
        count, *found = (file[name] for name in file.files)
    if [leaf.shape for leaf in found] != [leaf.shape for leaf in leaves]:
        raise ValueError(
            f"{path} is of a training with other settings: give the same options, or remove it."
        )
    print(f"Going on after {int(count)} updates.", flush=True)
    return int(count), jax.tree.unflatten(tree, map(jnp.asarray, found))
