"""Modules with shapes in place of arrays, to be filled from files."""

import types
from collections.abc import Callable

import jax
from flax import nnx


def shapes(make: Callable[[nnx.Rngs], nnx.Module]) -> nnx.Module:
    """What `make(rngs)` returns, without computing a parameter.

    Traced `nnx.Rngs` take a time that grows with the square of the number of parameters (each use
    builds an error message that it throws away); shapes need no chance, so all get one key.
    """
    key = jax.random.key(0)
    rngs = types.SimpleNamespace(
        params=lambda: key, normal=lambda shape: jax.random.normal(key, shape)
    )
    return nnx.eval_shape(lambda: make(rngs))
