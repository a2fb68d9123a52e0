"""Keeps activations split by examples, whatever the rules of parameters suggest to the compiler."""

from typing import TypeVar

import jax
from jax.sharding import PartitionSpec

from rbjax.parallel.mesh import BATCH

T = TypeVar("T")


def split_batch(tree: T, axis: int = 0) -> T:
    """Returns arrays whose axis of examples is split over `data` and `fsdp`, and no other axis.

    Without it the compiler lets activations follow the parameters that are split over `fsdp`: it
    gathers the examples of all devices on each. Where no mesh is set (`jax.set_mesh`), where one
    device holds all examples, or where they do not divide, arrays stay as they are.

    Args:
        tree: of arrays.
        axis: of the examples.
    """
    mesh = jax.sharding.get_abstract_mesh()
    parts = mesh.shape.get("data", 1) * mesh.shape.get("fsdp", 1)
    if parts * mesh.shape.get("tensor", 1) == 1:
        return tree
    spec = PartitionSpec(*(None,) * axis, *BATCH)

    def pin(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, spec) if x.shape[axis] % parts == 0 else x

    return jax.tree.map(pin, tree)
