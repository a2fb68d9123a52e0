"""CLIP's text encoder, with the attribute names of transformers' `CLIPTextModel`.

A causal transformer over the tokens of a prompt; the last layer's normalised states are what a
UNet attends to. Stable Diffusion 2.x uses OpenCLIP's in the same form: exact gelu, and the last
layer already left out of its file. The image encoder in clip_vision.py shares the layers.

Axes: B prompts, T tokens, D channels, H heads.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from rbjax.models import layers
from rbjax.models.activations import activation
from rbjax.models.attention import attention
from rbjax.models.config_files import file_fields, known_fields
from rbjax.models.linear import Linear
from rbjax.parallel.activations import split_batch

ACTIVATIONS = ("quick_gelu", "gelu")  # those of CLIP models
OLD_PREFIX = "text_model"  # of keys before transformers 5, which reads them too


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """What the text and the image encoder have in common; names are those of transformers.

    `dtype` is that of the computation, whatever that of the parameters.

    Raises:
        ValueError: for an unknown activation, or channels that the heads don't divide.
    """

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(
                f"hidden_act is {self.hidden_act!r}; it must be one of {', '.join(ACTIVATIONS)}."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}."
            )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Reads a transformers config; what this encoder does not need is left out."""
        return cls(**known_fields(cls, config))


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig(TransformerConfig):
    """Sizes of the text encoder."""

    vocab_size: int = 49408
    max_position_embeddings: int = 77

    def to_dict(self) -> dict[str, Any]:
        """Returns a `config.json` that transformers reads."""
        kind = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
        return kind | file_fields(self)


class CLIPTextModel(nnx.Module):
    """Token ids to token states."""

    old_keys = ((rf"^{OLD_PREFIX}\.", ""),)
    ignored_keys = ("embeddings.position_ids",)
    unused_keys = (  # of a whole CLIPModel, whose text encoder this is
        r"^(text|visual)_projection\.weight$",
        r"^logit_scale$",
        r"^vision_model\.",
    )

    def __init__(self, config: CLIPTextConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embeddings = Embeddings(config, rngs)
        self.encoder = Encoder(config, rngs, causal=True)
        self.final_layer_norm = layer_norm(config, rngs)

    def __call__(self, input_ids: jax.Array) -> jax.Array:
        """Returns the last hidden state [B, T, D] of int ids [B, T].

        Raises:
            ValueError: if T is more than `max_position_embeddings`.
        """
        return self.final_layer_norm(self.encoder(self.embeddings(input_ids)))


class Embeddings(nnx.Module):
    """Sum of the embeddings of a token and of its place."""

    def __init__(self, config: CLIPTextConfig, rngs: nnx.Rngs) -> None:
        self.token_embedding = embed(config.vocab_size, config, rngs)
        self.position_embedding = embed(config.max_position_embeddings, config, rngs)

    def __call__(self, input_ids: jax.Array) -> jax.Array:
        length, longest = input_ids.shape[-1], self.position_embedding.num_embeddings
        if length > longest:
            raise ValueError(
                f"a prompt has {length} tokens; the text encoder takes at most {longest}."
            )
        positions = self.position_embedding(jnp.arange(length))
        return split_batch(split_batch(self.token_embedding(input_ids)) + positions)


class Encoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, *, causal: bool) -> None:
        self.layers = nnx.List(
            [EncoderLayer(config, rngs, causal=causal) for _ in range(config.num_hidden_layers)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


class EncoderLayer(nnx.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, *, causal: bool) -> None:
        self.layer_norm1 = layer_norm(config, rngs)
        self.self_attn = Attention(config, rngs, causal=causal)
        self.layer_norm2 = layer_norm(config, rngs)
        self.mlp = MLP(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = split_batch(x + self.self_attn(self.layer_norm1(x)))
        return split_batch(x + self.mlp(self.layer_norm2(x)))


class Attention(nnx.Module):
    """Multi-head self-attention; `causal` hides later tokens."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, *, causal: bool) -> None:
        width = config.hidden_size
        self.num_heads, self.causal = config.num_attention_heads, causal
        self.q_proj = linear(width, width, config, rngs)
        self.k_proj = linear(width, width, config, rngs)
        self.v_proj = linear(width, width, config, rngs)
        self.out_proj = linear(width, width, config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        heads = (*x.shape[:-1], self.num_heads, x.shape[-1] // self.num_heads)  # [B, T, H, D / H]
        q, k, v = (project(x).reshape(heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        out = attention(q, k, v, causal=self.causal)
        return self.out_proj(out.reshape(x.shape))


class MLP(nnx.Module):
    """Two linear layers with the configured activation."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs) -> None:
        self.activation = activation(config.hidden_act)
        self.fc1 = linear(config.hidden_size, config.intermediate_size, config, rngs)
        self.fc2 = linear(config.intermediate_size, config.hidden_size, config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(self.activation(self.fc1(x)))


def linear(
    cin: int, cout: int, config: TransformerConfig, rngs: nnx.Rngs, *, bias: bool = True
) -> Linear:
    """Builds a linear layer that computes in the config's dtype."""
    return Linear(cin, cout, use_bias=bias, dtype=config.dtype, rngs=rngs)


def embed(count: int, config: TransformerConfig, rngs: nnx.Rngs) -> nnx.Embed:
    """Builds an embedding of `count` rows, started at a deviation of 0.02."""
    start = nnx.initializers.normal(0.02)
    return nnx.Embed(count, config.hidden_size, embedding_init=start, dtype=config.dtype, rngs=rngs)


def layer_norm(config: TransformerConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Builds a LayerNorm with the settings of the config."""
    return layers.layer_norm(
        config.hidden_size, epsilon=config.layer_norm_eps, dtype=config.dtype, rngs=rngs
    )
