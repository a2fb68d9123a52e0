"""The KL autoencoder of Stable Diffusion 1.x and 2.x, with diffusers' parameter names.

Axes: B batch, H W image, h w latents (H / 8 with SD's four levels, rounded down), C channels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from rbjax.models import layers
from rbjax.models.attention import attention
from rbjax.models.config_files import file_fields, known_fields
from rbjax.models.linear import Linear

LOG_VARIANCE_RANGE = (-30.0, 20.0)  # as in diffusers


@dataclasses.dataclass(frozen=True)
class AutoencoderKLConfig:
    """Fields of diffusers' `AutoencoderKL` config that SD 1.x and 2.x use."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    dtype: DTypeLike = jnp.float32

    norm_eps = 1e-6  # of every norm; not a field of the file

    @property
    def factor(self) -> int:
        """Pixels of a latent's side."""
        return 2 ** (len(self.block_out_channels) - 1)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "AutoencoderKLConfig":
        """Reads a diffusers config; absent fields take its defaults.

        Raises:
            ValueError: a feature that SD 1.x and 2.x lack.
        """
        unsupported = {
            "act_fn": "silu",
            "shift_factor": None,
            "latents_mean": None,
            "latents_std": None,
            "use_quant_conv": True,
            "use_post_quant_conv": True,
            "mid_block_add_attention": True,
        }
        for key, value in unsupported.items():
            if config.get(key, value) != value:
                raise ValueError(f"autoencoder config: {key}={config[key]!r} is not supported")
        for key, kind in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
            kinds = config.get(f"{key}_block_types", [kind])
            if set(kinds) != {kind}:
                raise ValueError(
                    f"autoencoder config: {key}_block_types={list(kinds)} is not supported; "
                    f"only {kind} is"
                )
        defaults = {"block_out_channels": (64,), "layers_per_block": 1}
        return cls(**known_fields(cls, {**defaults, **config}))

    def to_dict(self) -> dict[str, Any]:
        """Returns a `config.json` that diffusers reads."""
        levels = len(self.block_out_channels)
        return {
            "_class_name": "AutoencoderKL",
            **file_fields(self),
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
        }


class AutoencoderKL(nnx.Module):
    """Images to latents and back, behind the same two methods as `BlockDCT`."""

    old_keys = (  # of files written before diffusers 0.17
        (r"\.query\.", ".to_q."),
        (r"\.key\.", ".to_k."),
        (r"\.value\.", ".to_v."),
        (r"\.proj_attn\.", ".to_out.0."),
    )

    def __init__(self, config: AutoencoderKLConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        latent, dtype = config.latent_channels, config.dtype
        self.encoder = Encoder(config, rngs)
        self.decoder = Decoder(config, rngs)
        self.quant_conv = layers.conv(2 * latent, 2 * latent, 1, dtype=dtype, rngs=rngs)
        self.post_quant_conv = layers.conv(latent, latent, 1, dtype=dtype, rngs=rngs)

    def moments(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns mean and log variance, float32 [B, h, w, C], unscaled, of images in [-1, 1].

        Raises:
            ValueError: a side is shorter than one latent.
        """
        if min(images.shape[1:3]) < self.config.factor:
            raise ValueError(
                f"images of {images.shape[1]}x{images.shape[2]} pixels are smaller than one "
                f"latent, {self.config.factor}x{self.config.factor}"
            )
        hidden = self.encoder(images.astype(self.config.dtype))
        mean, log_variance = jnp.split(self.quant_conv(hidden).astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(log_variance, *LOG_VARIANCE_RANGE)

    def encode(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns latents, float32 [B, h, w, C] of about unit variance, of images in [-1, 1].

        Args:
            images: [B, H, W, 3].
            key: samples the latents (a training target); None takes their mean (a reference).
        """
        return self.sample(*self.moments(images), key)

    def sample(self, mean: jax.Array, log_variance: jax.Array, key: jax.Array | None) -> jax.Array:
        """Returns scaled latents of moments: a sample with a key, else the mean."""
        if key is not None:
            mean = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        return mean * self.config.scaling_factor

    def decode(self, latents: jax.Array) -> jax.Array:
        """Returns images, float32 [B, H, W, 3], about [-1, 1], of latents as of `encode`."""
        x = (latents / self.config.scaling_factor).astype(self.config.dtype)
        return self.decoder(self.post_quant_conv(x)).astype(jnp.float32)


class Encoder(nnx.Module):
    """Pixels to the moments before `quant_conv`."""

    def __init__(self, config: AutoencoderKLConfig, rngs: nnx.Rngs) -> None:
        widths, dtype = config.block_out_channels, config.dtype
        self.conv_in = layers.conv(config.in_channels, widths[0], 3, dtype=dtype, rngs=rngs)
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        self.down_blocks = nnx.List(
            DownBlock(cin, cout, config, rngs, halve=i < len(widths) - 1)
            for i, (cin, cout) in enumerate(pairs)
        )
        self.mid_block = MidBlock(config, rngs)
        self.conv_norm_out = layers.group_norm(
            widths[-1], config.norm_num_groups, config.norm_eps, dtype=dtype, rngs=rngs
        )
        self.conv_out = layers.conv(
            widths[-1], 2 * config.latent_channels, 3, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nnx.Module):
    """Latents after `post_quant_conv` to pixels."""

    def __init__(self, config: AutoencoderKLConfig, rngs: nnx.Rngs) -> None:
        widths, dtype = config.block_out_channels[::-1], config.dtype
        self.conv_in = layers.conv(config.latent_channels, widths[0], 3, dtype=dtype, rngs=rngs)
        self.mid_block = MidBlock(config, rngs)
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        self.up_blocks = nnx.List(
            UpBlock(cin, cout, config, rngs, double=i < len(widths) - 1)
            for i, (cin, cout) in enumerate(pairs)
        )
        self.conv_norm_out = layers.group_norm(
            widths[-1], config.norm_num_groups, config.norm_eps, dtype=dtype, rngs=rngs
        )
        self.conv_out = layers.conv(widths[-1], config.out_channels, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class DownBlock(nnx.Module):
    """Resnets, then a halving convolution except at the last level."""

    def __init__(
        self, cin: int, cout: int, config: AutoencoderKLConfig, rngs: nnx.Rngs, *, halve: bool
    ) -> None:
        self.resnets = _resnets(config.layers_per_block, cin, cout, config, rngs)
        if halve:
            self.downsamplers = nnx.List([Downsample(cout, dtype=config.dtype, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x)
        return self.downsamplers[0](x) if hasattr(self, "downsamplers") else x


class UpBlock(nnx.Module):
    """Resnets, then a doubling except at the last level."""

    def __init__(
        self, cin: int, cout: int, config: AutoencoderKLConfig, rngs: nnx.Rngs, *, double: bool
    ) -> None:
        self.resnets = _resnets(config.layers_per_block + 1, cin, cout, config, rngs)
        if double:
            self.upsamplers = nnx.List([layers.Upsample(cout, dtype=config.dtype, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x)
        if not hasattr(self, "upsamplers"):
            return x
        return self.upsamplers[0](x, (2 * x.shape[1], 2 * x.shape[2]))


class MidBlock(nnx.Module):
    """Resnet, attention over the pixels, resnet."""

    def __init__(self, config: AutoencoderKLConfig, rngs: nnx.Rngs) -> None:
        width = config.block_out_channels[-1]
        self.resnets = _resnets(2, width, width, config, rngs)
        self.attentions = nnx.List([PixelAttention(width, config, rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class PixelAttention(nnx.Module):
    """One head over all pixels, with a residual connection."""

    def __init__(self, channels: int, config: AutoencoderKLConfig, rngs: nnx.Rngs) -> None:
        def linear() -> Linear:
            return Linear(channels, channels, dtype=config.dtype, rngs=rngs)

        self.group_norm = layers.group_norm(
            channels, config.norm_num_groups, config.norm_eps, dtype=config.dtype, rngs=rngs
        )
        self.to_q, self.to_k, self.to_v = linear(), linear(), linear()
        self.to_out = nnx.List([linear()])

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape  # B may be 0: of no references
        tokens = self.group_norm(x).reshape(batch, height * width, 1, channels)
        query, key, value = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        out = attention(query, key, value)
        return x + self.to_out[0](out).reshape(x.shape)


class Downsample(nnx.Module):
    """Halves height and width; pads below and to the right only, unlike the UNet's."""

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(
            channels, channels, (3, 3), strides=2, padding=((0, 1),) * 2, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


def _resnets(
    count: int, cin: int, cout: int, config: AutoencoderKLConfig, rngs: nnx.Rngs
) -> nnx.List:
    return nnx.List(
        layers.ResnetBlock(cin if j == 0 else cout, cout, None, config, rngs) for j in range(count)
    )
