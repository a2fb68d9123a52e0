"""The conditional UNet of Stable Diffusion 1.x and 2.x, with diffusers' parameter names.

`encode`, `middle` and `decode` are separate, because RetriNet (paper, architecture figure) reads
the encoder's levels and adds to the skip connections between them and the decoder.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from rbjax.models import layers
from rbjax.models.config_files import file_fields, known_fields


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Fields of diffusers' `UNet2DConditionModel` config that SD 1.x and 2.x use.

    `attention_head_dim` is, as in every SD checkpoint, the *number* of heads of each level.
    `upcast_attention` and `sample_size` are kept for diffusers alone, which needs the one for
    SD 2.1 in float16 (attention here has logits in float32) and the other as its default size.

    Raises:
        ValueError: impossible numbers of heads.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    layers_per_block: int = 2
    attention_head_dim: int | tuple[int, ...] = 8
    cross_attention_dim: int = 768
    transformer_layers_per_block: int = 1
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: float = 0.0
    upcast_attention: bool = False
    sample_size: int | tuple[int, ...] | None = None
    dtype: DTypeLike = jnp.float32  # of the computation
    remat: bool = False  # recompute each layer's activations in the backward pass

    def __post_init__(self) -> None:
        heads, widths = self.heads, self.block_out_channels
        levels = list(zip(heads, widths, (*self.attends[:-1], True), strict=False))  # the middle
        numbers = len(heads) == len(widths) and all(isinstance(h, int) for h in heads)
        if not numbers or any(a and not 0 < h <= width for h, width, a in levels):
            raise ValueError(
                f"attention_head_dim={self.attention_head_dim!r} must be a number of heads, or one "
                f"for each level, at most block_out_channels={widths}"
            )

    @property
    def heads(self) -> tuple[int, ...]:
        """Number of attention heads of each level."""
        value = self.attention_head_dim
        return value if isinstance(value, tuple) else (value,) * len(self.block_out_channels)

    @property
    def attends(self) -> tuple[bool, ...]:
        """Whether each level has attention."""
        return tuple(kind.startswith("CrossAttn") for kind in self.down_block_types)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "UNetConfig":
        """Reads a diffusers config; absent fields take its defaults.

        Raises:
            ValueError: a feature that SD 1.x and 2.x lack.
        """
        unsupported = {
            "class_embed_type": None,
            "num_class_embeds": None,
            "addition_embed_type": None,
            "encoder_hid_dim": None,
            "encoder_hid_dim_type": None,
            "only_cross_attention": False,
            "mid_block_only_cross_attention": None,
            "dual_cross_attention": False,
            "cross_attention_norm": None,
            "attention_type": "default",
            "num_attention_heads": None,
            "resnet_time_scale_shift": "default",
            "resnet_skip_time_act": False,
            "resnet_out_scale_factor": 1.0,
            "time_embedding_type": "positional",
            "time_embedding_dim": None,
            "time_embedding_act_fn": None,
            "timestep_post_act": None,
            "time_cond_proj_dim": None,
            "conv_in_kernel": 3,
            "conv_out_kernel": 3,
            "act_fn": "silu",
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "downsample_padding": 1,
            "mid_block_scale_factor": 1,
            "center_input_sample": False,
        }
        for key, value in unsupported.items():
            if (config.get(key, value) or None) != (value or None):  # null, false and 0 are one
                raise ValueError(f"UNet config: {key}={config[key]!r} is not supported")
        for key in ("layers_per_block", "cross_attention_dim", "transformer_layers_per_block"):
            if not isinstance(config.get(key, 1), int):
                raise ValueError(f"UNet config: {key}={config[key]!r} must be one number here")
        mirrored = [k.replace("Down", "Up") for k in reversed(config.get("down_block_types", ()))]
        if mirrored and list(config.get("up_block_types", mirrored)) != mirrored:
            raise ValueError(
                f"UNet config: up_block_types={config['up_block_types']!r} do not mirror "
                f"down_block_types={config['down_block_types']!r}, which is not supported"
            )
        default = {"cross_attention_dim": 1280}  # the one that is not ours
        return cls(**known_fields(cls, {**default, **config}))

    def to_dict(self) -> dict[str, Any]:
        """Returns a `config.json` that diffusers reads."""
        mirrored = [kind.replace("Down", "Up") for kind in reversed(self.down_block_types)]
        return {
            "_class_name": "UNet2DConditionModel",
            **file_fields(self),
            "up_block_types": mirrored,
        }


class TimestepEmbedding(nnx.Module):
    """Two linear layers over the sinusoidal embedding."""

    def __init__(self, width: int, out: int, dtype, rngs: nnx.Rngs):
        self.linear_1 = nnx.Linear(width, out, dtype=dtype, rngs=rngs)
        self.linear_2 = nnx.Linear(out, out, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear_2(jax.nn.silu(self.linear_1(x)))


class DownBlock(nnx.Module):
    """One level of the encoder: resnets, attention where the level has it, downsampling."""

    def __init__(self, level: int, cin: int, config: UNetConfig, rngs: nnx.Rngs):
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
            self.downsamplers = nnx.List([layers.Downsample(cout, config.dtype, rngs)])

    def __call__(self, x: jax.Array, temb: jax.Array, context: jax.Array) -> list[jax.Array]:
        """Returns the output of every layer, the downsampled map last (if there is one)."""
        layer = jax.checkpoint(self.layer, static_argnums=0) if self.remat else self.layer
        outputs = []
        for j in range(len(self.resnets)):
            x = layer(j, x, temb, context)
            outputs.append(x)
        if hasattr(self, "downsamplers"):
            outputs.append(self.downsamplers[0](x))
        return outputs

    def layer(self, j: int, x: jax.Array, temb: jax.Array, context: jax.Array) -> jax.Array:
        """Resnet j and the attention after it."""
        x = self.resnets[j](x, temb)
        return self.attentions[j](x, context) if hasattr(self, "attentions") else x


class MidBlock(nnx.Module):
    """Resnet, attention, resnet at the lowest resolution."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs):
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
        """All three."""
        x = self.attentions[0](self.resnets[0](x, temb), context)
        return self.resnets[1](x, temb)


class UpBlock(nnx.Module):
    """One level of the decoder; `level` counts as in the encoder (0 = full resolution)."""

    def __init__(self, level: int, config: UNetConfig, rngs: nnx.Rngs):
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
            self.upsamplers = nnx.List([layers.Upsample(cout, config.dtype, rngs)])

    def __call__(self, x, temb, context, skips: list[jax.Array], size) -> jax.Array:
        """Consumes `skips` from the back; upsamples to `size` (h, w) where it has an upsampler."""
        layer = jax.checkpoint(self.layer, static_argnums=0) if self.remat else self.layer
        for j in range(len(self.resnets)):
            x = layer(j, x, skips.pop(), temb, context)
        return self.upsamplers[0](x, size) if hasattr(self, "upsamplers") else x

    def layer(self, j: int, x, skip, temb, context) -> jax.Array:
        """Resnet j over the joined maps and the attention after it."""
        x = self.resnets[j](jnp.concatenate([x, skip], axis=-1), temb)
        return self.attentions[j](x, context) if hasattr(self, "attentions") else x


class Encoder(nnx.Module):
    """`conv_in`, time embedding and the down levels: SD's encoder, and the retrieval encoder."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs):
        widths = config.block_out_channels
        self.config = config
        self.conv_in = layers.conv(config.in_channels, widths[0], 3, config.dtype, rngs)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0], config.dtype, rngs)
        self.down_blocks = nnx.List(
            DownBlock(i, widths[max(i - 1, 0)], config, rngs) for i in range(len(widths))
        )

    def embed_time(self, timesteps: jax.Array) -> jax.Array:
        """Timesteps [B] -> [B, 4 * width]."""
        c = self.config
        sines = layers.timestep_embedding(
            timesteps, c.block_out_channels[0], c.flip_sin_to_cos, c.freq_shift
        )
        return self.time_embedding(sines.astype(c.dtype))

    def encode(self, latents, temb, context) -> list[list[jax.Array]]:
        """Latents [B, h, w, C] -> the maps of each level; the first list holds conv_in's map."""
        x = self.conv_in(latents.astype(self.config.dtype))
        maps = [[x]]
        for block in self.down_blocks:
            maps.append(block(maps[-1][-1], temb, context))
        return maps

    def levels(self, maps: list[list[jax.Array]]) -> list[jax.Array]:
        """The last map of each level before downsampling: queries and keys of the conjunctions."""
        return [level[self.config.layers_per_block - 1] for level in maps[1:]]


class UNet2DConditionModel(Encoder):
    """`unet(latents [B,h,w,C], timesteps [B], encoder_hidden_states [B,T,D]) -> [B,h,w,C]`."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs):
        super().__init__(config, rngs)
        widths = config.block_out_channels
        self.mid_block = MidBlock(config, rngs)
        self.up_blocks = nnx.List(UpBlock(i, config, rngs) for i in reversed(range(len(widths))))
        self.conv_norm_out = layers.group_norm(
            widths[0], config.norm_num_groups, config.norm_eps, config.dtype, rngs
        )
        self.conv_out = layers.conv(widths[0], config.out_channels, 3, config.dtype, rngs)

    def decode(self, x, temb, context, maps: list[list[jax.Array]]) -> jax.Array:
        """The decoder over the middle block's map `x` and the skip connections `maps`."""
        sizes = [level[0].shape[1:3] for level in maps[1:]]  # (h, w) of each level
        skips = [m for level in maps for m in level]
        for i, block in enumerate(self.up_blocks):
            level = len(self.up_blocks) - 1 - i
            x = block(x, temb, context, skips, sizes[max(level - 1, 0)])
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x))).astype(jnp.float32)

    def __call__(self, latents, timesteps, encoder_hidden_states) -> jax.Array:
        context = encoder_hidden_states.astype(self.config.dtype)
        temb = self.embed_time(timesteps)
        maps = self.encode(latents, temb, context)
        x = self.mid_block(maps[-1][-1], temb, context)
        return self.decode(x, temb, context, maps)
