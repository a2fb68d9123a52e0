"""RetriNet (paper, architecture figure): a UNet that retrieves named concepts from references.

A retrieval encoder, a copy of the UNet's encoder, reads every reference with its concept word as
text. At each level a conjunction attends from the UNet encoder's map to the references' maps and
adds the result, through a zero-initialised convolution, to that level's last skip connection.
A new RetriNet is therefore exactly its UNet.

Axes: B batch, R references, h w height and width of a map, C channels, T tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from rbjax.models import layers
from rbjax.models.unet import Encoder, UNet2DConditionModel, UNetConfig

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

    def __post_init__(self):
        if self.reference_timestep not in ("target", "zero"):
            raise ValueError(
                f"reference_timestep={self.reference_timestep!r}: use 'target' or 'zero'"
            )


class Conjunction(nnx.Module):
    """Attention from one level of the UNet's encoder to the references, then a zero convolution."""

    def __init__(self, channels: int, config: RetriNetConfig, rngs: nnx.Rngs):
        dtype, groups = config.unet.dtype, config.unet.norm_num_groups
        self.positions = config.positions
        self.norm_query = layers.group_norm(channels, groups, 1e-6, dtype, rngs)
        self.norm_reference = layers.group_norm(channels, groups, 1e-6, dtype, rngs)
        self.attn = layers.Attention(channels, channels, config.heads, dtype, rngs)
        if self.positions:  # equal projections: attention starts at the query's own position
            self.attn.to_k.kernel.set_value(jnp.copy(self.attn.to_q.kernel.get_value()))
        zeros = nnx.initializers.zeros_init()
        self.zero_conv = nnx.Conv(
            channels, channels, (1, 1), kernel_init=zeros, dtype=dtype, rngs=rngs
        )

    def _tokens(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A map [B, h, w, C] as tokens [B, h*w, C], without and with positions."""
        _, height, width, channels = x.shape
        tokens = x.reshape(x.shape[0], height * width, channels)
        if not self.positions:
            return tokens, tokens
        return tokens, tokens + layers.sine_positions(height, width, channels).astype(x.dtype)

    def keys_values(self, maps: jax.Array, batch: int) -> tuple[jax.Array, jax.Array]:
        """Reference maps [B*R, h, w, C] -> keys and values [B, R*h*w, C]."""
        tokens, placed = self._tokens(self.norm_reference(maps))
        key, value = self.attn.to_k(placed), self.attn.to_v(tokens)
        return tuple(x.reshape(batch, -1, x.shape[-1]) for x in (key, value))

    def __call__(self, x: jax.Array, key, value, mask: jax.Array) -> jax.Array:
        """What to add to the skip connection x [B, h, w, C]; zero where no reference is visible.

        Args:
            x: the UNet encoder's map of this level.
            key, value: of `keys_values`.
            mask: [B, R], True where there is a reference, False at padding.
        """
        _, placed = self._tokens(self.norm_query(x))
        some = mask.any(axis=1)  # [B]
        visible = mask | ~some[:, None]  # a softmax over nothing is not a number
        visible = jnp.repeat(visible, key.shape[1] // mask.shape[1], axis=1)  # [B, R*h*w]
        out = self.attn.attend(self.attn.to_q(placed), key, value, visible)
        out = self.zero_conv(out.reshape(x.shape))
        return jnp.where(some[:, None, None, None], out, 0)


def make_conjunctions(config: RetriNetConfig, rngs: nnx.Rngs) -> nnx.List:
    """One conjunction a level: all that RetriNet adds to pretrained weights."""
    return nnx.List(Conjunction(width, config, rngs) for width in config.unet.block_out_channels)


class RetriNet(nnx.Module):
    """UNet, retrieval encoder and conjunctions."""

    def __init__(self, config: RetriNetConfig, rngs: nnx.Rngs):
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

    def encode_references(self, references, concepts, timesteps) -> References:
        """Keys and values of every level.

        Args:
            references: latents [B, R, h, w, C]; R may be any number from 1.
            concepts: text states of each reference's concept word, [B, R, T, D].
            timesteps: [B], of the target; unread where `reference_timestep` is "zero".
        """
        batch, count = references.shape[:2]
        times = jnp.repeat(timesteps, count)  # [B*R]
        if self.config.reference_timestep == "zero":
            times = jnp.zeros_like(times)
        encoder = self.retrieval_encoder
        context = concepts.reshape(-1, *concepts.shape[2:]).astype(self.config.unet.dtype)
        flat = references.reshape(-1, *references.shape[2:])
        maps = encoder.levels(encoder.encode(flat, encoder.embed_time(times), context))
        return [c.keys_values(m, batch) for c, m in zip(self.conjunctions, maps, strict=True)]

    def denoise(self, latents, timesteps, prompt, references: References, mask) -> jax.Array:
        """The UNet with the references' keys and values; shapes as in `__call__`."""
        unet = self.unet
        context = prompt.astype(self.config.unet.dtype)
        temb = unet.embed_time(timesteps)
        maps = unet.encode(latents, temb, context)
        x = unet.mid_block(maps[-1][-1], temb, context)
        last = self.config.unet.layers_per_block - 1
        for level, conjunction, (key, value) in zip(
            maps[1:], self.conjunctions, references, strict=True
        ):
            level[last] = level[last] + conjunction(level[last], key, value, mask)
        return unet.decode(x, temb, context, maps)

    def __call__(self, latents, timesteps, prompt, references, concepts, mask) -> jax.Array:
        """Predicts noise, velocity or sample, as the schedule says.

        Args:
            latents: noisy target, [B, h, w, C].
            timesteps: [B].
            prompt: text states, [B, T, D].
            references: clean latents, [B, R, h, w, C].
            concepts: text states of the concept words, [B, R, Tc, D].
            mask: [B, R], False at padding.

        Returns:
            [B, h, w, C] float32.
        """
        encoded = self.encode_references(references, concepts, timesteps)
        return self.denoise(latents, timesteps, prompt, encoded, mask)
