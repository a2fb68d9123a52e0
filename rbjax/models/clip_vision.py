"""CLIP's image encoder and the projections into the space that it shares with the text.

Attribute names are those of transformers' `CLIPVisionModelWithProjection` and `CLIPModel`.

Axes: N images, P patches + 1, B prompts, T tokens, D channels, E shared space.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rbjax.models.clip_text import (
    CLIPTextConfig,
    CLIPTextModel,
    Encoder,
    TransformerConfig,
    embed,
    layer_norm,
    linear,
)
from rbjax.models.config_files import file_fields


@dataclasses.dataclass(frozen=True)
class CLIPVisionConfig(TransformerConfig):
    """Sizes of the image encoder; the defaults are transformers' (ViT-B/32)."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    projection_dim: int = 512

    def to_dict(self) -> dict[str, Any]:
        """Returns a `config.json` that transformers reads."""
        kind = {"architectures": ["CLIPVisionModelWithProjection"]}
        return kind | {"model_type": "clip_vision_model"} | file_fields(self)


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Both encoders; `eos_token_id` marks the token whose state stands for a prompt."""

    text: CLIPTextConfig = CLIPTextConfig()
    vision: CLIPVisionConfig = CLIPVisionConfig()
    projection_dim: int = 512
    eos_token_id: int = 49407

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "CLIPConfig":
        """Reads transformers' `config.json` of a CLIP model; absent fields take its defaults."""
        text, vision = config.get("text_config") or {}, config.get("vision_config") or {}
        dim = config.get("projection_dim", cls.projection_dim)
        return cls(
            CLIPTextConfig.from_dict(text),
            dataclasses.replace(CLIPVisionConfig.from_dict(vision), projection_dim=dim),
            dim,
            text.get("eos_token_id", cls.eos_token_id),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns a `config.json` that transformers reads."""
        end = {"eos_token_id": self.eos_token_id, "projection_dim": self.projection_dim}
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": self.projection_dim,
            "text_config": file_fields(self.text) | end | {"model_type": "clip_text_model"},
            "vision_config": file_fields(self.vision) | {"model_type": "clip_vision_model"},
        }


class VisionEmbeddings(nnx.Module):
    """Class token and patches, plus learned positions."""

    def __init__(self, config: CLIPVisionConfig, rngs: nnx.Rngs) -> None:
        width, patch = config.hidden_size, config.patch_size
        self.image_size = config.image_size
        self.class_embedding = nnx.Param(0.02 * rngs.normal((width,)))
        self.patch_embedding = nnx.Conv(
            3,
            width,
            (patch, patch),
            strides=patch,
            padding="VALID",
            use_bias=False,
            dtype=config.dtype,
            rngs=rngs,
        )
        count = (config.image_size // patch) ** 2 + 1
        self.position_embedding = embed(count, config, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        if images.shape[1:] != (self.image_size, self.image_size, 3):
            raise ValueError(
                f"images are {images.shape}; CLIP's image encoder takes "
                f"[N, {self.image_size}, {self.image_size}, 3]"
            )
        patches = self.patch_embedding(images)
        patches = patches.reshape(images.shape[0], -1, patches.shape[-1])  # [N, P - 1, D]
        first = jnp.broadcast_to(self.class_embedding[...], (*patches[:, :1].shape,))
        tokens = jnp.concatenate([first.astype(patches.dtype), patches], axis=1)
        return tokens + self.position_embedding(jnp.arange(tokens.shape[1]))


class VisionTransformer(nnx.Module):
    """[N, H, W, 3] -> the normalised state of the class token, [N, D]."""

    def __init__(self, config: CLIPVisionConfig, rngs: nnx.Rngs) -> None:
        self.embeddings = VisionEmbeddings(config, rngs)
        self.pre_layrnorm = layer_norm(config, rngs)  # sic: the key in the files
        self.encoder = Encoder(config, rngs, causal=False)
        self.post_layernorm = layer_norm(config, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        states = self.encoder(self.pre_layrnorm(self.embeddings(images)))
        return self.post_layernorm(states[:, 0])


class CLIPVisionModelWithProjection(nnx.Module):
    """Images [N, H, W, 3], normalised as CLIP's preprocessing does -> embeddings [N, E]."""

    ignored_keys = ("embeddings.position_ids",)
    unused_keys = (r"^text_projection\.weight$", r"^logit_scale$", r"^text_model\.")  # of CLIPModel

    def __init__(self, config: CLIPVisionConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.vision_model = VisionTransformer(config, rngs)
        self.visual_projection = linear(
            config.hidden_size, config.projection_dim, config, rngs, bias=False
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.visual_projection(self.vision_model(images))


class CLIPModel(nnx.Module):
    """Images and texts in one space; cosines there say how well they go together."""

    ignored_keys = ("embeddings.position_ids",)

    def __init__(self, config: CLIPConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.text_model = CLIPTextModel(config.text, rngs)
        self.vision_model = VisionTransformer(config.vision, rngs)
        self.text_projection = linear(
            config.text.hidden_size, config.projection_dim, config.text, rngs, bias=False
        )
        self.visual_projection = linear(
            config.vision.hidden_size, config.projection_dim, config.vision, rngs, bias=False
        )
        self.logit_scale = nnx.Param(jnp.asarray(2.6592))  # log of the scale of cosines

    def get_image_features(self, images: jax.Array) -> jax.Array:
        """Returns embeddings [N, E] of images [N, H, W, 3], normalised as CLIP's files expect."""
        return self.visual_projection(self.vision_model(images))

    def get_text_features(self, input_ids: jax.Array) -> jax.Array:
        """Returns embeddings [B, E] of ids [B, T] that end with `eos_token_id`.

        In files older than transformers 4.30 `eos_token_id` is 2 by mistake; the end is then the
        largest id, as transformers does it.
        """
        states = self.text_model(input_ids)
        end = self.config.eos_token_id
        ends = input_ids if end == 2 else input_ids == end
        last = jnp.argmax(ends.astype(jnp.int32), axis=1)
        return self.text_projection(states[jnp.arange(len(states)), last])
