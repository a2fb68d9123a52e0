"""The conditional UNet of Stable Diffusion 1.x and 2.x, with diffusers' parameter names.

`encode`, `mid_block` and `decode` are separate, because RetriNet (paper, architecture figure) reads
the encoder's levels and adds to the skip connections between them and the decoder.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from rbjax.models import layers
from rbjax.models.unet_config import UNetConfig
from rbjax.parallel.activations import split_batch


class TimestepEmbedding(nnx.Module):
    """Two linear layers over the sinusoidal embedding."""

    def __init__(self, width: int, out: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.linear_1 = nnx.Linear(width, out, dtype=dtype, rngs=rngs)
        self.linear_2 = nnx.Linear(out, out, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return split_batch(self.linear_2(jax.nn.silu(self.linear_1(x))))


class DownBlock(nnx.Module):
    """One level of the encoder: resnets, attention where the level has it, downsampling."""

    def __init__(self, level: int, cin: int, config: UNetConfig, rngs: nnx.Rngs) -> None:
        cout = config.block_out_channels[level]
        time = 4 * config.block_out_channels[0]
        count = config.layers_per_block
        self.remat = config.remat
        self.resnets = nnx.List(
            layers.ResnetBlock(cin if j == 0 else cout, cout, time, config, rngs)
            for j in range(count)
        )
        if config.attends[level]:
            self.attentions = nnx.List(
                layers.Transformer2D(cout, config.heads[level], config, rngs) for _ in range(count)
            )
        if level < len(config.block_out_channels) - 1:
            self.downsamplers = nnx.List([layers.Downsample(cout, dtype=config.dtype, rngs=rngs)])

    def __call__(self, x: jax.Array, temb: jax.Array, context: jax.Array) -> list[jax.Array]:
        """Returns the output of every layer, the downsampled map last (if there is one)."""
        layer = jax.checkpoint(self.layer, static_argnums=0) if self.remat else self.layer
        outputs = []
        for j in range(len(self.resnets)):
            x = layer(j, x, temb, context)
            outputs.append(x)
        if hasattr(self, "downsamplers"):
            outputs.append(split_batch(self.downsamplers[0](x)))
        return outputs

    def layer(self, j: int, x: jax.Array, temb: jax.Array, context: jax.Array) -> jax.Array:
        """Applies resnet j and the attention after it."""
        x = self.resnets[j](x, temb)
        return self.attentions[j](x, context) if hasattr(self, "attentions") else x


class MidBlock(nnx.Module):
    """Resnet, attention, resnet at the lowest resolution."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs) -> None:
        width, time = config.block_out_channels[-1], 4 * config.block_out_channels[0]
        self.remat = config.remat
        self.resnets = nnx.List(
            layers.ResnetBlock(width, width, time, config, rngs) for _ in range(2)
        )
        self.attentions = nnx.List([layers.Transformer2D(width, config.heads[-1], config, rngs)])

    def __call__(self, x: jax.Array, temb: jax.Array, context: jax.Array) -> jax.Array:
        block = jax.checkpoint(self.block) if self.remat else self.block
        return block(x, temb, context)

    def block(self, x: jax.Array, temb: jax.Array, context: jax.Array) -> jax.Array:
        """Applies all three."""
        x = self.attentions[0](self.resnets[0](x, temb), context)
        return self.resnets[1](x, temb)


class UpBlock(nnx.Module):
    """One level of the decoder; `level` counts as in the encoder (0 = full resolution)."""

    def __init__(self, level: int, config: UNetConfig, rngs: nnx.Rngs) -> None:
        widths = config.block_out_channels
        cout = widths[level]
        below = widths[min(level + 1, len(widths) - 1)]
        above = widths[max(level - 1, 0)]
        count = config.layers_per_block + 1
        time = 4 * widths[0]
        self.remat = config.remat
        self.resnets = nnx.List(
            layers.ResnetBlock(
                (below if j == 0 else cout) + (above if j == count - 1 else cout),
                cout,
                time,
                config,
                rngs,
            )
            for j in range(count)
        )
        if config.attends[level]:
            self.attentions = nnx.List(
                layers.Transformer2D(cout, config.heads[level], config, rngs) for _ in range(count)
            )
        if level > 0:
            self.upsamplers = nnx.List([layers.Upsample(cout, dtype=config.dtype, rngs=rngs)])

    def __call__(
        self,
        x: jax.Array,
        temb: jax.Array,
        context: jax.Array,
        *,
        skips: list[jax.Array],
        size: tuple[int, int],
    ) -> jax.Array:
        """Consumes `skips` from the back; upsamples to `size` (h, w) where it has an upsampler."""
        layer = jax.checkpoint(self.layer, static_argnums=0) if self.remat else self.layer
        for j in range(len(self.resnets)):
            x = layer(j, x, skips.pop(), temb, context)
        return split_batch(self.upsamplers[0](x, size)) if hasattr(self, "upsamplers") else x

    def layer(
        self, j: int, x: jax.Array, skip: jax.Array, temb: jax.Array, context: jax.Array
    ) -> jax.Array:
        """Applies resnet j to the joined maps and the attention after it."""
        x = self.resnets[j](jnp.concatenate([x, skip], axis=-1), temb)
        return self.attentions[j](x, context) if hasattr(self, "attentions") else x


class Encoder(nnx.Module):
    """`conv_in`, time embedding and the down levels: SD's encoder, and the retrieval encoder."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs) -> None:
        widths = config.block_out_channels
        self.config = config
        self.conv_in = layers.conv(config.in_channels, widths[0], 3, dtype=config.dtype, rngs=rngs)
        self.time_embedding = TimestepEmbedding(
            widths[0], 4 * widths[0], dtype=config.dtype, rngs=rngs
        )
        self.down_blocks = nnx.List(
            DownBlock(i, widths[max(i - 1, 0)], config, rngs) for i in range(len(widths))
        )

    def embed_time(self, timesteps: jax.Array) -> jax.Array:
        """Returns the embedding [B, 4 * width] of timesteps [B]."""
        c = self.config
        sines = layers.timestep_embedding(
            timesteps,
            c.block_out_channels[0],
            flip_sin_to_cos=c.flip_sin_to_cos,
            freq_shift=c.freq_shift,
        )
        return self.time_embedding(sines.astype(c.dtype))

    def encode(
        self, latents: jax.Array, temb: jax.Array, context: jax.Array
    ) -> list[list[jax.Array]]:
        """Returns the maps of each level for latents [B, h, w, C]; the first list is conv_in's."""
        x = split_batch(self.conv_in(latents.astype(self.config.dtype)))
        maps = [[x]]
        for block in self.down_blocks:
            maps.append(block(maps[-1][-1], temb, context))
        return maps

    def levels(self, maps: list[list[jax.Array]]) -> list[jax.Array]:
        """Returns the last map of each level before downsampling: queries and keys
        of the conjunctions."""
        return [level[self.config.layers_per_block - 1] for level in maps[1:]]


class UNet2DConditionModel(Encoder):
    """`unet(latents [B,h,w,C], timesteps [B], encoder_hidden_states [B,T,D]) -> [B,h,w,C]`."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs) -> None:
        super().__init__(config, rngs)
        widths = config.block_out_channels
        self.mid_block = MidBlock(config, rngs)
        self.up_blocks = nnx.List(UpBlock(i, config, rngs) for i in reversed(range(len(widths))))
        self.conv_norm_out = layers.group_norm(
            widths[0], config.norm_num_groups, config.norm_eps, dtype=config.dtype, rngs=rngs
        )
        self.conv_out = layers.conv(
            widths[0], config.out_channels, 3, dtype=config.dtype, rngs=rngs
        )

    def decode(
        self, x: jax.Array, temb: jax.Array, context: jax.Array, *, maps: list[list[jax.Array]]
    ) -> jax.Array:
        """Applies the decoder to the middle block's map `x` and the skip connections `maps`."""
        sizes = [(m.shape[1], m.shape[2]) for m, *_ in maps[1:]]  # (h, w) of each level
        skips = [m for level in maps for m in level]
        for i, block in enumerate(self.up_blocks):
            level = len(self.up_blocks) - 1 - i
            x = block(x, temb, context, skips=skips, size=sizes[max(level - 1, 0)])
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x))).astype(jnp.float32)

    def __call__(
        self, latents: jax.Array, timesteps: jax.Array, encoder_hidden_states: jax.Array
    ) -> jax.Array:
        context = encoder_hidden_states.astype(self.config.dtype)
        temb = self.embed_time(timesteps)
        maps = self.encode(latents, temb, context)
        x = self.mid_block(maps[-1][-1], temb, context)
        return self.decode(x, temb, context, maps=maps)
