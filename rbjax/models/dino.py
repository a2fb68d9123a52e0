"""DINO's vision transformers (v1: arXiv 2104.14294, v2: 2304.07193), as transformers stores them.

`ViTModel` (v1) and `Dinov2Model` are CLIP's pre-norm layers with other names in their files; v2
scales each residual. Images of other sizes than the weights were trained at get their positions by
interpolation, as in transformers.

Axes: N images, H, W their size, h, w patches, D channels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rbjax.models.clip_text import EncoderLayer, TransformerConfig, layer_norm
from rbjax.models.config_files import known_fields

CUBIC = -0.75  # of torch's bicubic interpolation; Keys' is -0.5


@dataclasses.dataclass(frozen=True)
class DinoConfig(TransformerConfig):
    """Sizes of the transformer; the defaults are those of transformers' `ViTConfig`."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    image_size: int = 224
    patch_size: int = 16
    is_scaled: bool = False  # v2: residuals have scales

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "DinoConfig":
        """Reads a transformers config of either model.

        Raises:
            ValueError: a feature that is not supported.
        """
        known = known_fields(cls, config)
        if config.get("use_swiglu_ffn") or not config.get("qkv_bias", True):
            raise ValueError("use_swiglu_ffn and qkv_bias=false are not supported.")
        if config.get("model_type") != "dinov2":
            return cls(**known)
        width = known.get("hidden_size", cls.hidden_size)
        fields: dict[str, Any] = {"layer_norm_eps": 1e-6, "patch_size": 14, **known}
        fields["intermediate_size"] = int(width * config.get("mlp_ratio", 4))
        return cls(**fields, is_scaled=True)


class DinoModel(nnx.Module):
    """Images, normalised as their image processor does -> states [N, 1 + h·w, D]."""

    old_keys = (  # of the two classes, in files and in memory
        (r"^(encoder\.layer|layers)\.(\d+)\.", r"encoder.layers.\2."),
        (r"\.attention\.attention\.(q|k|v)[a-z]+\.", r".self_attn.\1_proj."),
        (r"\.attention\.(q|k|v)_proj\.", r".self_attn.\1_proj."),
        (r"\.attention\.(output\.dense|o_proj)\.", ".self_attn.out_proj."),
        (r"\.(norm|layer_scale)([12])\.", r".layer_\1\2."),
        (r"\.layer_layer_scale", ".layer_scale"),
        (r"\.layernorm_before\.", ".layer_norm1."),
        (r"\.layernorm_after\.", ".layer_norm2."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    )
    ignored_keys = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token")

    def __init__(self, config: DinoConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embeddings = Embeddings(config, rngs)
        self.encoder = Encoder(config, rngs)
        self.layernorm = layer_norm(config, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns the normalised states [N, 1 + h·w, D] of images [N, H, W, 3]; the first is CLS.

        Raises:
            ValueError: sides of the images are no multiples of the patch's.
        """
        return self.layernorm(self.encoder(self.embeddings(images)))


class Embeddings(nnx.Module):
    """Class token and patches, plus learned positions."""

    def __init__(self, config: DinoConfig, rngs: nnx.Rngs) -> None:
        width, side = config.hidden_size, config.image_size // config.patch_size
        self.cls_token = nnx.Param(0.02 * rngs.normal((1, 1, width)))
        self.position_embeddings = nnx.Param(0.02 * rngs.normal((1, side * side + 1, width)))
        self.patch_embeddings = PatchEmbeddings(config, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        patches = self.patch_embeddings(images)  # [N, h, w, D]
        count, height, width, channels = patches.shape
        flat = patches.reshape(count, height * width, channels)
        first = jnp.broadcast_to(self.cls_token[...], (count, 1, channels))
        return jnp.concatenate([first, flat], axis=1) + self._positions(height, width)

    def _positions(self, height: int, width: int) -> jax.Array:
        """Returns the positions of a class token and h·w patches, [1, 1 + h·w, D]."""
        table = self.position_embeddings[...]
        side = round((table.shape[1] - 1) ** 0.5)
        if (height, width) == (side, side):
            return table
        grid = table[0, 1:].reshape(side, side, -1)
        rows, columns = (cubic_matrix(side, length) for length in (height, width))
        grid = jnp.einsum("hi,ijd,wj->hwd", rows, grid, columns)
        return jnp.concatenate([table[:, :1], grid.reshape(1, height * width, -1)], axis=1)


class PatchEmbeddings(nnx.Module):
    """[N, H, W, 3] -> [N, h, w, D]."""

    def __init__(self, config: DinoConfig, rngs: nnx.Rngs) -> None:
        self.patch = config.patch_size
        self.projection = nnx.Conv(
            3,
            config.hidden_size,
            (self.patch, self.patch),
            strides=self.patch,
            padding="VALID",
            dtype=config.dtype,
            rngs=rngs,
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        if images.shape[1] % self.patch or images.shape[2] % self.patch:
            raise ValueError(
                f"images are {images.shape}; their sides must be multiples of the {self.patch} "
                "pixels of a patch"
            )
        return self.projection(images)


class Encoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: DinoConfig, rngs: nnx.Rngs) -> None:
        kind = ScaledLayer if config.is_scaled else EncoderLayer
        self.layers = nnx.List(
            [kind(config, rngs, causal=False) for _ in range(config.num_hidden_layers)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


class LayerScale(nnx.Module):
    """Multiplies channels."""

    def __init__(self, width: int) -> None:
        self.lambda1 = nnx.Param(jnp.ones(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.lambda1[...]


class ScaledLayer(EncoderLayer):
    """A pre-norm layer whose residuals are scaled."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, *, causal: bool) -> None:
        super().__init__(config, rngs, causal=causal)
        self.layer_scale1 = LayerScale(config.hidden_size)
        self.layer_scale2 = LayerScale(config.hidden_size)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.layer_scale1(self.self_attn(self.layer_norm1(x)))
        return x + self.layer_scale2(self.mlp(self.layer_norm2(x)))


def cubic_matrix(old: int, new: int) -> np.ndarray:
    """Returns torch's bicubic interpolation of a row (align_corners=False), float32 [new, old]."""
    matrix = np.zeros((new, old))
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centers).astype(int) - 1
    for tap in range(4):
        distance = np.abs(centers - (first + tap))
        near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
        far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
        weight = np.where(distance <= 1, near, far)
        np.add.at(matrix, (np.arange(new), np.clip(first + tap, 0, old - 1)), weight)
    return matrix.astype(np.float32)
