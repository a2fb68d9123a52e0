"""Which axis of the mesh splits which axis of a parameter: one table, first match wins."""

import math
import re
from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

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
LARGE = 2**16  # an unmatched parameter of so many elements is an error


def spec(path: str, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> P:
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
    if math.prod(shape) >= LARGE:
        raise ValueError(
            f"no sharding rule matches {path} {shape}: add one to rbjax/parallel/rules.py"
        )
    return P()


def _fit(axes: P, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> P:
    used = tuple(axes)[: len(shape)]
    padded = (None,) * (len(shape) - len(used)) + used
    pairs = zip(padded, shape, strict=True)
    return P(*(a if a is None or size % mesh.shape[a] == 0 else None for a, size in pairs))


def shardings(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Returns NamedShardings of arrays or ShapeDtypeStructs, by the paths of a tree's leaves."""

    def leaf(path: tuple[Any, ...], x: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        name = "/".join(str(getattr(k, "key", getattr(k, "name", k))) for k in path)
        return NamedSharding(mesh, spec(name, x.shape, mesh))

    return jax.tree_util.tree_map_with_path(leaf, tree)
