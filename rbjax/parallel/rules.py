"""Which axis of the mesh splits which axis of a parameter: one table, first match wins."""

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

T = TypeVar("T")
GATHERED = "gathered_parameters"

# Layers that widen are split by their outputs, those that narrow by their inputs, so that a pair
# exchanges data once. The fsdp axis splits the other side. Kernels are [in, out], [h, w, in, out].
# Convolutions are not split over tensor: with jax 0.10 on CPU the partitioned program then gave
# another loss (1.4 %) than the unpartitioned one.
RULES: tuple[tuple[str, P], ...] = (
    (r"(conv\w*|proj_in|proj_out|patch_embedding)/kernel$", P("fsdp", None)),
    (r"(to_out/\d+|ff/net/2|out_proj|fc2)/kernel$", P("tensor", "fsdp")),
    (r"kernel$", P("fsdp", "tensor")),
    (r"embedding$", P("tensor", "fsdp")),
    (r"(scale|bias)$", P()),
)
LARGE = 2**18  # elements, 1 MiB of float32: an unmatched parameter that has more is an error


def spec(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
    """Returns the PartitionSpec of a parameter: its rule's, cut or filled to its shape.

    A rule names mesh axes for the last axes of the parameter (those before them are not split);
    of a longer rule the first names are read. An axis whose size is not a multiple of its mesh axis
    is not split. A small parameter that no rule matches is on every device.

    Args:
        path: "/"-joined attribute names.
        shape: of the parameter.
        mesh: with the axes of the table.

    Raises:
        ValueError: no rule matches a large parameter.
    """
    for pattern, axes in RULES:
        if re.search(pattern, path):
            return _fit(axes, shape, mesh)
    if math.prod(shape) > LARGE:
        raise ValueError(
            f"no sharding rule matches {path} {shape}: add one to rbjax/parallel/rules.py"
        )
    return P()


def _fit(axes: P, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
    used = tuple(axes)[: len(shape)]
    padded = (None,) * (len(shape) - len(used)) + used
    pairs = zip(padded, shape, strict=True)
    return P(*(a if a is None or size % mesh.shape[a] == 0 else None for a, size in pairs))


def split(tree: T) -> T:
    """Pins parameters, or what is shaped like them, to their rules, inside of a jitted function."""
    return _pin(tree, lambda axes: axes)


def gather(tree: T) -> T:
    """Pins parameters to how a computation reads them: entire along `fsdp`.

    Each is then collected once where it is needed; left to itself, the compiler may collect the
    activations of all devices instead. With GATHERED as the name of what `jax.checkpoint` does not
    keep, the backward pass collects them again.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.shape.get("fsdp", 1) == 1:
        return split(tree)
    entire = _pin(tree, lambda axes: P(*(None if axis == "fsdp" else axis for axis in axes)))
    return jax.tree.map(lambda x: checkpoint_name(x, GATHERED), entire)


def _pin(tree: T, change: Callable[[P], P]) -> T:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return tree

    def leaf(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, change(spec(_name(path), x.shape, mesh)))

    return jax.tree_util.tree_map_with_path(leaf, tree)


def shardings(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Returns NamedShardings of arrays or ShapeDtypeStructs, by the paths of a tree's leaves."""

    def leaf(path: tuple[Any, ...], x: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        return NamedSharding(mesh, spec(_name(path), x.shape, mesh))

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(getattr(k, "key", getattr(k, "name", k))) for k in path)
