"""Settings of Stable Diffusion's UNet, as diffusers' config file holds them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from rbjax.models.config_files import file_fields, known_fields

# Fields whose other values are features that SD 1.x and 2.x lack; null, false and 0 are one value.
ONLY_SUPPORTED: Mapping[str, Any] = {
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
        for key, value in ONLY_SUPPORTED.items():
            if (config.get(key, value) or None) != (value or None):
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
