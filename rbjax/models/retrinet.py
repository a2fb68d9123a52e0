"""RetriNet (paper, architecture figure): a UNet that retrieves named concepts from references.

A retrieval encoder, a copy of the UNet's encoder, reads every reference with its concept word as
text. At each level a conjunction attends from the UNet encoder's map to the references' maps and
adds the result, through a zero-initialised convolution, to that level's last skip connection.
A new RetriNet is therefore exactly its UNet.

Axes: B batch, R references, h w height and width of a map, C channels, T tokens.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rbjax.models import attention, layers
from rbjax.models.linear import PointwiseConv
from rbjax.models.unet import Encoder, UNet2DConditionModel
from rbjax.models.unet_config import UNetConfig
from rbjax.parallel.activations import split_batch

T = TypeVar("T")
References = list[tuple[jax.Array, jax.Array]]  # keys and values of every level, [B, R*h*w, C]


@dataclasses.dataclass(frozen=True)
class RetriNetConfig:
    """What RetriNet adds to its UNet.

    Attributes:
        unet: the UNet, whose encoder the retrieval encoder copies.
        heads: attention heads of every conjunction.
        positions: add fixed 2-D sine positions to queries and keys (ours; learns many times faster
            from scratch; off beside pretrained SD blocks).
        reference_timestep: "target" runs the retrieval encoder with the target's time (paper, v2),
            "zero" with time 0, so that sampling computes keys and values once.
    """

    unet: UNetConfig
    heads: int = 1
    positions: bool = True
    reference_timestep: str = "target"

    def __post_init__(self) -> None:
        if self.reference_timestep not in ("target", "zero"):
            raise ValueError(
                f"reference_timestep={self.reference_timestep!r}: use 'target' or 'zero'"
            )


class Conjunction(nnx.Module):
    """Attention from one level of the UNet's encoder to the references, then a zero convolution."""

    def __init__(self, channels: int, config: RetriNetConfig, rngs: nnx.Rngs) -> None:
        dtype, groups = config.unet.dtype, config.unet.norm_num_groups
        self.positions = config.positions
        self.norm_query = layers.group_norm(channels, groups, 1e-6, dtype=dtype, rngs=rngs)
        self.norm_reference = layers.group_norm(channels, groups, 1e-6, dtype=dtype, rngs=rngs)
        self.attn = layers.Attention(channels, channels, config.heads, dtype=dtype, rngs=rngs)
        if self.positions:  # equal projections: attention starts at the query's own position
            self.attn.to_k.kernel.set_value(jnp.copy(self.attn.to_q.kernel.get_value()))
        zeros = nnx.initializers.zeros_init()
        self.zero_conv = PointwiseConv(
            channels, channels, (1, 1), kernel_init=zeros, dtype=dtype, rngs=rngs
        )

    def _tokens(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns a map [B, h, w, C] as tokens [B, h*w, C], without and with positions."""
        _, height, width, channels = x.shape
        tokens = x.reshape(x.shape[0], height * width, channels)
        if not self.positions:
            return tokens, tokens
        return tokens, tokens + layers.sine_positions(height, width, channels).astype(x.dtype)

    def keys_values(self, maps: jax.Array, batch: int) -> tuple[jax.Array, jax.Array]:
        """Returns keys and values [B, R*h*w, C] of reference maps [B*R, h, w, C]."""
        tokens, placed = self._tokens(self.norm_reference(maps))
        key, value = self.attn.to_k(placed), self.attn.to_v(tokens)
        shape = (batch, -1, key.shape[-1])
        return key.reshape(shape), value.reshape(shape)

    def __call__(
        self, x: jax.Array, *, key: jax.Array, value: jax.Array, mask: jax.Array | np.ndarray
    ) -> jax.Array:
        """Returns what to add to the skip connection x [B, h, w, C].

        Zero where no reference is visible.

        Args:
            x: the UNet encoder's map of this level.
            key: of `keys_values`.
            value: of `keys_values`.
            mask: [B, R], True where there is a reference, False at padding.
        """
        visible, some = _visible(mask, key.shape[1])
        out = self.attn.attend(self._query(x), key, value, visible)
        out = split_batch(self.zero_conv(out.reshape(x.shape)))
        return jnp.where(some[:, None, None, None], out, 0)

    def weights(self, x: jax.Array, *, key: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
        """Returns how much each place of x reads from each key, float32 [B, h*w, R*h*w].

        Averaged over the heads. A row sums to one, or is zero where no reference is visible.
        Arguments as of `__call__`.
        """
        visible, some = _visible(mask, key.shape[1])
        split = self.attn.split_heads
        found = attention.mean_weights(split(self._query(x)), split(key), visible)
        return jnp.where(some[:, None, None], found, 0)

    def _query(self, x: jax.Array) -> jax.Array:
        return self.attn.to_q(self._tokens(self.norm_query(x))[1])


def _visible(mask: jax.Array | np.ndarray, keys: int) -> tuple[jax.Array, jax.Array]:
    """Returns which keys are visible, [B, keys], and whether any reference is, [B].

    Where none is, all keys count as visible: a softmax over nothing is not a number.
    """
    mask = jnp.asarray(mask)
    some = mask.any(axis=1)
    visible = mask | ~some[:, None]
    return jnp.repeat(visible, keys // mask.shape[1], axis=1), some


def make_conjunctions(config: RetriNetConfig, rngs: nnx.Rngs) -> nnx.List:
    """Builds one conjunction a level: all that RetriNet adds to pretrained weights."""
    return nnx.List(Conjunction(width, config, rngs) for width in config.unet.block_out_channels)


class RetriNet(nnx.Module):
    """UNet, retrieval encoder and conjunctions."""

    def __init__(self, config: RetriNetConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.unet = UNet2DConditionModel(config.unet, rngs)
        self.retrieval_encoder = Encoder(config.unet, rngs)
        self.conjunctions = make_conjunctions(config, rngs)
        self.copy_encoder()

    def copy_encoder(self) -> None:
        """Initialises the retrieval encoder from the UNet's encoder (paper)."""
        source = nnx.to_pure_dict(nnx.state(self.unet, nnx.Param))
        target = nnx.state(self.retrieval_encoder, nnx.Param)
        copied = {name: source[name] for name in nnx.to_pure_dict(target)}
        nnx.replace_by_pure_dict(target, jax.tree.map(jnp.copy, copied))
        nnx.update(self.retrieval_encoder, target)

    def encode_references(
        self, references: jax.Array, concepts: jax.Array, timesteps: jax.Array
    ) -> References:
        """Returns keys and values of every level (paper, retrieval encoder).

        Args:
            references: latents [B, R, h, w, C]; R may be any number from 1.
            concepts: text states of each reference's concept word, [B, R, T, D].
            timesteps: [B], of the target; unread where `reference_timestep` is "zero".
        """
        batch = references.shape[0]
        maps = self._reference_maps(references, concepts, timesteps)
        return [
            self._remat(functools.partial(conjunction.keys_values, batch=batch))(level)
            for conjunction, level in zip(self.conjunctions, maps, strict=True)
        ]

    def _remat(self, function: Callable[..., T]) -> Callable[..., T]:
        """Returns the function; with `remat` its activations are computed twice, not kept."""
        return jax.checkpoint(function) if self.config.unet.remat else function

    def _reference_maps(
        self, references: jax.Array, concepts: jax.Array, timesteps: jax.Array
    ) -> list[jax.Array]:
        """Returns the retrieval encoder's map of each level, [B*R, h, w, C]."""
        count = references.shape[1]
        times = jnp.repeat(timesteps, count)  # [B*R]
        if self.config.reference_timestep == "zero":
            times = jnp.zeros_like(times)
        encoder = self.retrieval_encoder
        context = concepts.reshape(-1, *concepts.shape[2:]).astype(self.config.unet.dtype)
        flat = references.reshape(-1, *references.shape[2:])
        return encoder.levels(encoder.encode(flat, encoder.embed_time(times), context))

    def retrieval_weights(
        self,
        latents: jax.Array,
        timesteps: jax.Array,
        *,
        prompt: jax.Array,
        references: jax.Array,
        concepts: jax.Array,
        mask: jax.Array | np.ndarray,
    ) -> list[jax.Array]:
        """Returns of each level what the conjunction's places read from the references.

        Arguments as of `__call__`.

        Returns:
            float32 [B, h, w, R, h', w'] of each level: places of the target's map, and of the
            references'; see `Conjunction.weights`.
        """
        unet, batch = self.unet, latents.shape[0]
        context = prompt.astype(self.config.unet.dtype)
        targets = unet.levels(unet.encode(latents, unet.embed_time(timesteps), context))
        sources = self._reference_maps(references, concepts, timesteps)
        weights = []
        for conjunction, x, source in zip(self.conjunctions, targets, sources, strict=True):
            key, _ = conjunction.keys_values(source, batch)
            found = conjunction.weights(x, key=key, mask=mask)
            weights.append(found.reshape(*x.shape[:3], -1, *source.shape[1:3]))
        return weights

    def denoise(
        self,
        latents: jax.Array,
        timesteps: jax.Array,
        *,
        prompt: jax.Array,
        references: References,
        mask: jax.Array | np.ndarray,
    ) -> jax.Array:
        """Applies the UNet with encoded references; other arguments as of `__call__`."""
        unet = self.unet
        context = prompt.astype(self.config.unet.dtype)
        temb = unet.embed_time(timesteps)
        maps = unet.encode(latents, temb, context)
        x = unet.mid_block(maps[-1][-1], temb, context)
        last = self.config.unet.layers_per_block - 1
        for level, conjunction, (key, value) in zip(
            maps[1:], self.conjunctions, references, strict=True
        ):
            retrieve = self._remat(functools.partial(conjunction.__call__, mask=mask))
            level[last] = level[last] + retrieve(level[last], key=key, value=value)
        return unet.decode(x, temb, context, maps=maps)

    def __call__(
        self,
        latents: jax.Array,
        timesteps: jax.Array,
        *,
        prompt: jax.Array,
        references: jax.Array,
        concepts: jax.Array,
        mask: jax.Array | np.ndarray,
    ) -> jax.Array:
        """Predicts noise, velocity or sample, as the schedule says.

        Args:
            latents: noisy target, [B, h, w, C].
            timesteps: [B].
            prompt: text states, [B, T, D].
            references: clean latents, [B, R, h, w, C]; with R = 0 this is the UNet.
            concepts: text states of the concept words, [B, R, Tc, D].
            mask: [B, R], False at padding.

        Returns:
            [B, h, w, C] float32.
        """
        if not references.shape[1]:
            return self.unet(latents, timesteps, prompt)
        encoded = self.encode_references(references, concepts, timesteps)
        return self.denoise(latents, timesteps, prompt=prompt, references=encoded, mask=mask)
