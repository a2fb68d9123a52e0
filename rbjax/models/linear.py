"""Products of a feature axis with a matrix, over flattened positions.

A product over more than one axis of positions has a slow gradient on CPUs: XLA sums over them one
after the other instead of as one matrix product (from 128 to 1024 features of [32, 64] tokens it
takes ten times as long).
"""

import math

import jax
from flax import nnx


class Linear(nnx.Linear):
    """`nnx.Linear`, whose input [..., C] is seen as [N, C]."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        *positions, channels = inputs.shape
        out = super().__call__(inputs.reshape(math.prod(positions), channels))
        return out.reshape(*positions, self.out_features)


class PointwiseConv(nnx.Conv):
    """`nnx.Conv` of one pixel, [B, h, w, C] -> [B, h, w, K], as a product of matrices."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        dtype = self.dtype or inputs.dtype
        kernel = self.kernel[...].astype(dtype)[0, 0]
        *positions, channels = inputs.shape
        out = inputs.reshape(math.prod(positions), channels).astype(dtype) @ kernel
        if self.bias is not None:
            out += self.bias[...].astype(dtype)
        return out.reshape(*positions, self.out_features)
