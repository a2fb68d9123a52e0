"""Modules with shapes in place of arrays, to be filled from files."""

import re
import types
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

Module = TypeVar("Module", bound=nnx.Module)
Tree = dict[str, Any]  # nested, keys are attribute names, leaves are arrays


def shapes(make: Callable[[nnx.Rngs], Module]) -> Module:
    """Returns what `make(rngs)` builds, with shapes in place of parameters.

    Traced `nnx.Rngs` take a time that grows with the square of the number of parameters (each use
    builds an error message that it throws away); shapes do not depend on keys, so all get one.
    """
    key = jax.random.key(0)
    rngs: Any = types.SimpleNamespace(  # of the methods that our layers call
        params=lambda: key, normal=lambda shape: jax.random.normal(key, shape)
    )
    return nnx.eval_shape(lambda: make(rngs))


def nnx_state(params: Tree) -> nnx.State:
    """Returns a nested dict of arrays as the state of a module."""
    return nnx.State(jax.tree.map(nnx.Param, params))


def split_trained(params: Tree, trained: list[str], frozen: list[str]) -> tuple[Tree, Tree]:
    """Splits parameters by patterns of their names.

    Args:
        params: nested dict.
        trained: regular expressions, matched from the start of "a/b/0/kernel".
        frozen: likewise.

    Returns:
        The trained and the frozen parameters, each nested.

    Raises:
        ValueError: a parameter matches both lists or none; it lists all of them.
    """
    flat = nnx.traversals.flatten_mapping(params)
    names = {path: "/".join(map(str, path)) for path in flat}
    hits = {path: (matches(name, trained), matches(name, frozen)) for path, name in names.items()}
    wrong = [f"  {names[p]}: {'both' if a else 'neither'}" for p, (a, b) in hits.items() if a == b]
    if wrong:
        raise ValueError(
            "each parameter must match exactly one of config.train.trained and "
            "config.train.frozen:\n" + "\n".join(wrong)
        )
    parts = ({p: v for p, v in flat.items() if hits[p][k]} for k in (0, 1))
    first, second = (nnx.traversals.unflatten_mapping(part) for part in parts)
    return first, second


def matches(name: str, patterns: list[str]) -> bool:
    """Returns whether one of the regular expressions matches from the start of the name."""
    return any(re.match(pattern, name) for pattern in patterns)


def merge(first: Tree, second: Tree) -> Tree:
    """Returns all parameters of two parts: the inverse of `split_trained`."""
    flat = nnx.traversals.flatten_mapping(first) | nnx.traversals.flatten_mapping(second)
    return nnx.traversals.unflatten_mapping(flat)
