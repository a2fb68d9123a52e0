"""Scaled dot-product attention, computed in the way that suits the device.

Axes: B batch, T queries, S keys, N heads, D head width.
"""

import math

import jax
import jax.numpy as jnp

LARGE = 2**17  # T * S from which holding the logits of all heads at once costs more than it gives


def attention(query, key, value, mask: jax.Array | None = None) -> jax.Array:
    """softmax(query key / sqrt(D)) value.

    Small maps take XLA's products of all heads at once. Large ones take cuDNN's flash attention on
    GPUs (16-bit types) and go from head to head on CPUs.

    Args:
        query: [B, T, N, D].
        key: [B, S, N, D].
        value: [B, S, N, D].
        mask: bool [B, S], True = visible, at least one of a row; None = all are visible.

    Returns:
        [B, T, N, D].
    """
    if query.shape[1] * key.shape[1] < LARGE:
        return at_once(query, key, value, mask)
    if flash_fits(query, key):
        return flash(query, key, value, mask)
    arguments = (query, key, value) if mask is None else (query, key, value, mask)
    return jax.lax.platform_dependent(*arguments, cpu=by_head, default=at_once)


def flash_fits(query: jax.Array, key: jax.Array) -> bool:
    """Whether this is a GPU with flash attention, and it takes these shapes and types."""
    if jax.default_backend() != "gpu":
        return False
    capability = getattr(jax.local_devices()[0], "compute_capability", "0.0")
    return (
        float(capability) >= 8
        and query.dtype.itemsize == 2
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 128
        and query.shape[1] % 2 == key.shape[1] % 2 == 0
    )


def at_once(query, key, value, mask=None) -> jax.Array:
    """All heads together, by XLA's products."""
    mask = None if mask is None else mask[:, None, None, :]
    return jax.nn.dot_product_attention(query, key, value, mask=mask)


def flash(query, key, value, mask=None) -> jax.Array:
    """By cuDNN, which wants the mask for every query."""
    if mask is not None:
        shape = (mask.shape[0], 1, query.shape[1], mask.shape[1])
        mask = jnp.broadcast_to(mask[:, None, None, :], shape)
    return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation="cudnn")


def by_head(query, key, value, mask=None) -> jax.Array:
    """One head of one example after the other, each as two products of plain matrices."""
    batch, length, heads, width = query.shape
    mask = jnp.ones(key.shape[:2], bool) if mask is None else mask

    def one(arrays) -> jax.Array:
        query, key, value, visible = arrays  # [T, D], [S, D], [S, D], [S]
        logits = (query @ key.T).astype(jnp.float32) / math.sqrt(width)
        logits = jnp.where(visible, logits, jnp.finfo(jnp.float32).min)
        return jax.nn.softmax(logits).astype(value.dtype) @ value

    apart = [x.swapaxes(1, 2).reshape(batch * heads, -1, width) for x in (query, key, value)]
    out = jax.lax.map(one, (*apart, jnp.repeat(mask, heads, axis=0)))
    return out.reshape(batch, heads, length, width).swapaxes(1, 2)
