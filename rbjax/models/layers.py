"""Layers that the UNet and the retrieval modules share, named and shaped as in diffusers.

Axes: B batch, R references, h w latent height and width, C channels, T S tokens, N heads, D head
width. Images and latents are channels last. Attribute names are diffusers' parameter names.
"""

import math
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from rbjax.models.attention import attention
from rbjax.models.linear import Linear, PointwiseConv
from rbjax.parallel.activations import split_batch


class ResnetSettings(Protocol):
    """Fields of a config that `ResnetBlock` reads."""

    @property
    def dtype(self) -> DTypeLike: ...
    @property
    def norm_num_groups(self) -> int: ...
    @property
    def norm_eps(self) -> float: ...


class TransformerSettings(Protocol):
    """Fields of a config that `Transformer2D` reads."""

    @property
    def dtype(self) -> DTypeLike: ...
    @property
    def norm_num_groups(self) -> int: ...
    @property
    def cross_attention_dim(self) -> int: ...
    @property
    def use_linear_projection(self) -> bool: ...
    @property
    def transformer_layers_per_block(self) -> int: ...


class Identity(nnx.Module):
    """Holds a place in a list whose indices are parameter names (diffusers has dropout there)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


class GroupNorm(nnx.GroupNorm):
    """GroupNorm with torch's two-pass variance, summed channel by channel.

    Flax splits the channels into groups before it sums; sums over a few channels of each pixel are
    slow on CPUs (2 to 6 times on the maps of this package's small models).
    """

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalises maps [B, h, w, C]; statistics are float32.

        Raises:
            ValueError: a mask is given, which no module here has.
        """
        if mask is not None:
            raise ValueError("GroupNorm takes no mask")
        dtype, per_group = self.dtype or x.dtype, x.shape[-1] // self.num_groups

        def spread(sums: jax.Array) -> jax.Array:
            """Returns the mean of each channel's group, [B, 1, 1, C], of sums over a map [B, C]."""
            means = sums.reshape(len(sums), self.num_groups, per_group).mean(-1)
            means = means / math.prod(x.shape[1:-1])
            return jnp.repeat(means, per_group, axis=1)[:, None, None]

        centered = x.astype(jnp.float32)
        centered = centered - spread(centered.sum((1, 2)))
        variance = spread(jnp.square(centered).sum((1, 2)))
        assert self.scale is not None and self.bias is not None
        scaled = centered * (jax.lax.rsqrt(variance + self.epsilon) * self.scale[...])
        return (scaled + self.bias[...]).astype(dtype)


def group_norm(
    channels: int, groups: int, epsilon: float, *, dtype: DTypeLike, rngs: nnx.Rngs
) -> GroupNorm:
    """Builds a GroupNorm with learned scale and bias."""
    return GroupNorm(channels, groups, epsilon=epsilon, dtype=dtype, rngs=rngs)


def layer_norm(
    channels: int, *, epsilon: float = 1e-5, dtype: DTypeLike | None = None, rngs: nnx.Rngs
) -> nnx.LayerNorm:
    """Builds a LayerNorm with torch's two-pass variance; `dtype` None is that of its input."""
    return nnx.LayerNorm(channels, epsilon=epsilon, use_fast_variance=False, dtype=dtype, rngs=rngs)


def conv(
    cin: int, cout: int, size: int, *, dtype: DTypeLike, rngs: nnx.Rngs, stride: int = 1
) -> nnx.Conv:
    """Builds a square convolution with torch's symmetric padding."""
    pad = size // 2
    kind = PointwiseConv if size == stride == 1 else nnx.Conv
    return kind(
        cin, cout, (size, size), strides=stride, padding=((pad, pad),) * 2, dtype=dtype, rngs=rngs
    )


def timestep_embedding(
    timesteps: jax.Array, width: int, *, flip_sin_to_cos: bool = True, freq_shift: float = 0.0
) -> jax.Array:
    """Returns sinusoidal embeddings of timesteps [B] (any real), as in diffusers: [B, width].

    The last channel of an odd width is zero.
    """
    half = width // 2
    exponent = -math.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift)
    angles = timesteps.astype(jnp.float32)[:, None] * jnp.exp(exponent)[None]
    parts = [jnp.cos(angles), jnp.sin(angles)]
    sines = jnp.concatenate(parts if flip_sin_to_cos else parts[::-1], axis=-1)
    return jnp.pad(sines, ((0, 0), (0, width - 2 * half)))


def sine_positions(height: int, width: int, channels: int) -> jax.Array:
    """Returns 2-D sine positions of the unit square, float32 [height * width, channels] (ours).

    The coordinates are relative to the map, so maps of different sizes share them. A quarter of
    the channels each holds sin and cos of y and of x, at frequencies pi/2 to pi/2 * 16; channels
    that are left over after the division by four are zero.
    """
    count = channels // 4
    frequencies = (math.pi / 2) * 16.0 ** (jnp.arange(count) / max(count - 1, 1))
    y = (jnp.arange(height) + 0.5) / height
    x = (jnp.arange(width) + 0.5) / width
    grid = jnp.stack(jnp.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)  # [h*w, 2]
    angles = (grid[:, :, None] * frequencies).reshape(height * width, -1)  # [h*w, 2*count]
    positions = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    return jnp.pad(positions, ((0, 0), (0, channels - 4 * count)))


class Attention(nnx.Module):
    """Multi-head attention (diffusers `Attention`): queries [B, T, C], context [B, S, Cc]."""

    def __init__(
        self, channels: int, context: int, heads: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.heads = heads
        linear = {"use_bias": False, "dtype": dtype, "rngs": rngs}
        self.to_q = Linear(channels, channels, **linear)
        self.to_k = Linear(context, channels, **linear)
        self.to_v = Linear(context, channels, **linear)
        self.to_out = nnx.List([Linear(channels, channels, dtype=dtype, rngs=rngs)])

    def split_heads(self, x: jax.Array) -> jax.Array:
        """Reshapes [B, T, C] to [B, T, N, D]."""
        return x.reshape(*x.shape[:-1], self.heads, -1)

    def attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """Attends from query [B, T, C] to key and value [B, S, C]; mask [B, S], True = visible."""
        query, key, value = map(self.split_heads, (query, key, value))
        out = attention(query, key, value, mask)
        return self.to_out[0](out.reshape(*out.shape[:-2], -1))

    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        context = x if context is None else context
        return self.attend(self.to_q(x), self.to_k(context), self.to_v(context))


class GEGLU(nnx.Module):
    """First half value, second half gate, exact erf gelu (diffusers `GEGLU`)."""

    def __init__(self, channels: int, inner: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.proj = Linear(channels, 2 * inner, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        value, gate = jnp.split(self.proj(x), 2, axis=-1)
        return value * jax.nn.gelu(gate, approximate=False)


class FeedForward(nnx.Module):
    """GEGLU and a projection back (diffusers `FeedForward`, keys net.0 and net.2)."""

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.net = nnx.List(
            [
                GEGLU(channels, 4 * channels, dtype=dtype, rngs=rngs),
                Identity(),
                Linear(4 * channels, channels, dtype=dtype, rngs=rngs),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.net[2](self.net[0](x))


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention to the text, feed-forward (`BasicTransformerBlock`)."""

    def __init__(
        self, channels: int, context: int, heads: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.norm1 = layer_norm(channels, dtype=dtype, rngs=rngs)
        self.attn1 = Attention(channels, channels, heads, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(channels, dtype=dtype, rngs=rngs)
        self.attn2 = Attention(channels, context, heads, dtype=dtype, rngs=rngs)
        self.norm3 = layer_norm(channels, dtype=dtype, rngs=rngs)
        self.ff = FeedForward(channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        x = split_batch(x + self.attn1(self.norm1(x)))
        x = split_batch(x + self.attn2(self.norm2(x), context))
        return split_batch(x + self.ff(self.norm3(x)))


class Transformer2D(nnx.Module):
    """Transformer blocks over the pixels of a map [B, h, w, C] (`Transformer2DModel`).

    Heads that do not divide the channels leave the remainder out of the blocks, as in diffusers.
    """

    def __init__(
        self, channels: int, heads: int, config: "TransformerSettings", rngs: nnx.Rngs
    ) -> None:
        dtype, inner = config.dtype, channels // heads * heads
        self.linear = config.use_linear_projection
        self.norm = group_norm(channels, config.norm_num_groups, 1e-6, dtype=dtype, rngs=rngs)
        self.proj_in = self._projection(channels, inner, dtype=dtype, rngs=rngs)
        self.transformer_blocks = nnx.List(
            TransformerBlock(inner, config.cross_attention_dim, heads, dtype=dtype, rngs=rngs)
            for _ in range(config.transformer_layers_per_block)
        )
        self.proj_out = self._projection(inner, channels, dtype=dtype, rngs=rngs)

    def _projection(
        self, cin: int, cout: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> Linear | nnx.Conv:
        if self.linear:
            return Linear(cin, cout, dtype=dtype, rngs=rngs)
        return conv(cin, cout, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        residual = x
        x = self.proj_in(self.norm(x))  # channels last: a 1x1 convolution is the same product
        x = x.reshape(x.shape[0], -1, x.shape[-1])  # [B, h*w, C]
        for block in self.transformer_blocks:
            x = block(x, context)
        return split_batch(self.proj_out(x.reshape(*residual.shape[:-1], -1)) + residual)


class ResnetBlock(nnx.Module):
    """Two convolutions with the time embedding between them (`ResnetBlock2D`).

    `time` is the width of the time embedding; None (KL autoencoder) leaves it out.
    """

    def __init__(
        self, cin: int, cout: int, time: int | None, config: "ResnetSettings", rngs: nnx.Rngs
    ) -> None:
        dtype, groups, epsilon = config.dtype, config.norm_num_groups, config.norm_eps
        self.norm1 = group_norm(cin, groups, epsilon, dtype=dtype, rngs=rngs)
        self.conv1 = conv(cin, cout, 3, dtype=dtype, rngs=rngs)
        if time is not None:
            self.time_emb_proj = Linear(time, cout, dtype=dtype, rngs=rngs)
        self.norm2 = group_norm(cout, groups, epsilon, dtype=dtype, rngs=rngs)
        self.conv2 = conv(cout, cout, 3, dtype=dtype, rngs=rngs)
        if cin != cout:
            self.conv_shortcut = conv(cin, cout, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, temb: jax.Array | None = None) -> jax.Array:
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        if hasattr(self, "time_emb_proj"):
            assert temb is not None  # given wherever the block was built with a width for it
            h = h + self.time_emb_proj(jax.nn.silu(temb))[:, None, None]
        h = self.conv2(jax.nn.silu(self.norm2(split_batch(h))))
        return split_batch(h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x))


class Downsample(nnx.Module):
    """Halves height and width (`Downsample2D`)."""

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.conv = conv(channels, channels, 3, dtype=dtype, rngs=rngs, stride=2)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class Upsample(nnx.Module):
    """Nearest-neighbour enlargement to `size` (h, w), then a convolution (`Upsample2D`)."""

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.conv = conv(channels, channels, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, size: tuple[int, int]) -> jax.Array:
        x = x.repeat(2, axis=1).repeat(2, axis=2)[:, : size[0], : size[1]]  # odd maps: torch's way
        return self.conv(x)
