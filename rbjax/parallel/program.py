"""Reads what a compiled program does on each device: its collectives and its memory."""

import collections
import math
import re
from typing import Any, NamedTuple

import jax
import numpy as np

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
_LINE = re.compile(rf" = (?P<result>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\(")
_ARRAY = re.compile(r"([a-z]+\d+\w*|pred)\[([\d,]*)\]")
_BITS = re.compile(r"\d+")


class Collective(NamedTuple):
    """One exchange between devices.

    Attributes:
        kind: one of KINDS.
        shapes: of the arrays that each device has afterwards.
        size: of them, in bytes.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    size: int


def collectives(text: str) -> list[Collective]:
    """Lists the collectives of a compiled program, given as HLO (`compiled.as_text()`).

    One that stands in a loop is listed once.
    """
    found = []
    for match in map(_LINE.search, text.splitlines()):
        if match is None:
            continue
        arrays = _ARRAY.findall(match["result"])
        if match["start"] and match["kind"] != "all-reduce":  # (operands, results)
            arrays = arrays[len(arrays) // 2 :]
        shapes = tuple(tuple(int(n) for n in axes.split(",") if n) for _, axes in arrays)
        sizes = [math.prod(s) * _bytes(t) for s, (t, _) in zip(shapes, arrays, strict=True)]
        found.append(Collective(match["kind"], shapes, sum(sizes)))
    return found


def summary(found: list[Collective]) -> dict[str, tuple[int, int]]:
    """Returns for each kind that occurs its number and its bytes."""
    counts = collections.Counter(c.kind for c in found)
    return {k: (n, sum(c.size for c in found if c.kind == k)) for k, n in counts.items()}


def device_bytes(tree: Any) -> int:
    """Returns the bytes of arrays (or ShapeDtypeStructs with shardings) on each device."""

    def size(x: jax.Array | jax.ShapeDtypeStruct) -> int:
        assert x.sharding is not None
        return math.prod(x.sharding.shard_shape(x.shape)) * np.dtype(x.dtype).itemsize

    return sum(map(size, jax.tree.leaves(tree)))


def memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Returns the bytes of a device; results that take the place of arguments do not count."""
    found: Any = compiled.memory_analysis()
    return {
        "arguments": found.argument_size_in_bytes,
        "results": found.output_size_in_bytes - found.alias_size_in_bytes,
        "work": found.temp_size_in_bytes,
    }


def operations(compiled: jax.stages.Compiled) -> float:
    """Returns the floating-point operations of a device; a loop's body counts once."""
    found: Any = compiled.cost_analysis()
    return found.get("flops", 0.0)


def _bytes(dtype: str) -> int:
    """Returns the bytes of a number: 4 for "f32", 1 for "pred" and all of 8 bits."""
    bits = _BITS.search(dtype)
    return max(1, int(bits[0]) // 8) if bits else 1
