"""Scaled dot-product attention, computed in the way that suits the device.

Axes: B batch, T queries, S keys, N heads, D head width.
"""

import functools
import math

import jax
import jax.numpy as jnp

LARGE = 2**17  # T * S from which holding the logits of all heads at once costs more than it gives


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool = False,
) -> jax.Array:
    """Returns softmax(query key / sqrt(D)) value.

    Small maps take XLA's products of all heads at once. Large ones take cuDNN's flash attention on
    GPUs (16-bit types), and elsewhere go from head to head: on TPUs with all examples at once,
    which a mesh splits, on CPUs from example to example too.

    Args:
        query: [B, T, N, D].
        key: [B, S, N, D].
        value: [B, S, N, D].
        mask: bool [B, S], True = visible, at least one of a row; None = all are visible.
        causal: whether key s is hidden from query t where s > t.

    Returns:
        [B, T, N, D].
    """
    if query.shape[1] * key.shape[1] < LARGE:
        return at_once(query, key, value, mask, causal=causal)
    if flash_fits(query, key):
        return flash(query, key, value, mask, causal=causal)
    arguments = (query, key, value) if mask is None else (query, key, value, mask)
    return jax.lax.platform_dependent(
        *arguments,
        cpu=functools.partial(by_head, causal=causal),
        default=functools.partial(heads_in_turn, causal=causal),
    )


def flash_fits(query: jax.Array, key: jax.Array) -> bool:
    """Returns whether this is a GPU with flash attention that takes these shapes and types."""
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


def at_once(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool = False,
) -> jax.Array:
    """Returns the attention of all heads, by XLA's products; arguments as of `attention`."""
    mask = None if mask is None else mask[:, None, None, :]
    return jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=causal)


def heads_in_turn(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool = False,
) -> jax.Array:
    """Returns the attention of one head after the other, whose logits are computed twice.

    Holding those of all heads takes gigabytes: at 384 px, of 64 references, [64, 8, 2304, 2304].
    """

    @jax.checkpoint
    def attend(arrays: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        query, key, value = (x[:, :, None] for x in arrays)  # [B, T or S, 1, D]
        return at_once(query, key, value, mask, causal=causal)[:, :, 0]

    out = jax.lax.map(attend, tuple(jnp.moveaxis(x, 2, 0) for x in (query, key, value)))
    return jnp.moveaxis(out, 0, 2)


def flash(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool = False,
) -> jax.Array:
    """Returns the attention by cuDNN, which skips the keys behind the last visible one.

    A mask it takes only for every query, [B, 1, T, S]: that is left to causal attention, whose keys
    have an order.
    """
    lengths = None
    if mask is not None and causal:
        shape = (mask.shape[0], 1, query.shape[1], mask.shape[1])
        mask = jnp.broadcast_to(mask[:, None, None, :], shape)
    elif mask is not None:
        key, value, lengths = visible_first(key, value, mask)
        mask = None
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=mask,
        is_causal=causal,
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )


def visible_first(
    key: jax.Array, value: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Moves the visible keys and their values to the front; the order of each kind stays.

    Returns:
        (key, value, number of visible keys int32 [B]); arguments as of `attention`.
    """
    order = jnp.argsort(~mask, axis=1, stable=True)

    @jax.vmap
    def move(x: jax.Array, places: jax.Array) -> jax.Array:  # [S, N, D], [S]
        return x.at[places].get(unique_indices=True, mode="promise_in_bounds")

    return move(key, order), move(value, order), mask.sum(axis=1, dtype=jnp.int32)


def mean_weights(query: jax.Array, key: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the softmax of `attention`, averaged over the heads: float32 [B, T, S].

    Holds the weights of one head at a time; arguments as of `attention`.
    """
    heads, width = query.shape[2:]

    def add(total: jax.Array, head: jax.Array) -> tuple[jax.Array, None]:
        logits = jnp.einsum("btd,bsd->bts", query[:, :, head], key[:, :, head])
        logits = logits.astype(jnp.float32) / math.sqrt(width)
        logits = jnp.where(mask[:, None], logits, -jnp.inf)
        return total + jax.nn.softmax(logits) / heads, None

    shape = (query.shape[0], query.shape[1], key.shape[1])
    return jax.lax.scan(add, jnp.zeros(shape, jnp.float32), jnp.arange(heads))[0]


def by_head(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool = False,
) -> jax.Array:
    """Returns the attention of one head after the other, each two products of plain matrices."""
    batch, length, heads, width = query.shape
    mask = jnp.ones(key.shape[:2], bool) if mask is None else mask

    def attend(arrays: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> jax.Array:
        query, key, value, visible = arrays  # [T, D], [S, D], [S, D], [S]
        if causal:
            visible = visible & jnp.tril(jnp.ones((len(query), len(key)), bool))  # [T, S]
        logits = (query @ key.T).astype(jnp.float32) / math.sqrt(width)
        logits = jnp.where(visible, logits, jnp.finfo(jnp.float32).min)
        return jax.nn.softmax(logits).astype(value.dtype) @ value

    flat = [x.swapaxes(1, 2).reshape(batch * heads, -1, width) for x in (query, key, value)]
    out = jax.lax.map(attend, (*flat, jnp.repeat(mask, heads, axis=0)))
    return out.reshape(batch, heads, length, width).swapaxes(1, 2)
