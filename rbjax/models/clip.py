"""CLIP's text encoder, with the attribute names of transformers' `CLIPTextModel`.

A causal transformer over the tokens of a prompt; the last layer's normalised states are what a
UNet attends to. Axes: B prompts, T tokens, D channels, H heads.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes of the encoder; names are those of the `config.json` of transformers.

    Raises:
        ValueError: for an unknown activation, or channels that the heads don't divide.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self):
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
    def from_dict(cls, config: Mapping[str, Any]) -> "CLIPTextConfig":
        """Reads a transformers config; what this encoder does not need is left out."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in names})


class CLIPTextModel(nnx.Module):
    """Token ids to token states."""

    def __init__(self, config: CLIPTextConfig, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs)
        self.encoder = Encoder(config, rngs)
        self.final_layer_norm = nnx.LayerNorm(
            config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs
        )

    def __call__(self, input_ids: jax.Array) -> jax.Array:
        """Returns the last hidden state [B, T, D] of int ids [B, T].

        Raises:
            ValueError: if T is more than `max_position_embeddings`.
        """
        return self.final_layer_norm(self.encoder(self.embeddings(input_ids)))


class Embeddings(nnx.Module):
    """Sum of the embeddings of a token and of its place."""

    def __init__(self, config: CLIPTextConfig, rngs: nnx.Rngs):
        start = nnx.initializers.normal(0.02)
        width = config.hidden_size
        self.token_embedding = nnx.Embed(config.vocab_size, width, embedding_init=start, rngs=rngs)
        self.position_embedding = nnx.Embed(
            config.max_position_embeddings, width, embedding_init=start, rngs=rngs
        )

    def __call__(self, input_ids: jax.Array) -> jax.Array:
        length, longest = input_ids.shape[-1], self.position_embedding.num_embeddings
        if length > longest:
            raise ValueError(
                f"a prompt has {length} tokens; the text encoder takes at most {longest}."
            )
        return self.token_embedding(input_ids) + self.position_embedding(jnp.arange(length))


class Encoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: CLIPTextConfig, rngs: nnx.Rngs):
        self.layers = nnx.List(
            [EncoderLayer(config, rngs) for _ in range(config.num_hidden_layers)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


class EncoderLayer(nnx.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: CLIPTextConfig, rngs: nnx.Rngs):
        width, eps = config.hidden_size, config.layer_norm_eps
        self.layer_norm1 = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)
        self.self_attn = Attention(config, rngs)
        self.layer_norm2 = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)
        self.mlp = MLP(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Attention(nnx.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: CLIPTextConfig, rngs: nnx.Rngs):
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.q_proj = nnx.Linear(width, width, rngs=rngs)
        self.k_proj = nnx.Linear(width, width, rngs=rngs)
        self.v_proj = nnx.Linear(width, width, rngs=rngs)
        self.out_proj = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        heads = (*x.shape[:-1], self.num_heads, x.shape[-1] // self.num_heads)  # [B, T, H, D / H]
        q, k, v = (project(x).reshape(heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))


class MLP(nnx.Module):
    """Two linear layers with the configured activation."""

    def __init__(self, config: CLIPTextConfig, rngs: nnx.Rngs):
        self.activation = config.hidden_act
        self.fc1 = nnx.Linear(config.hidden_size, config.intermediate_size, rngs=rngs)
        self.fc2 = nnx.Linear(config.intermediate_size, config.hidden_size, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))


def without_prefix(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Renames the keys of a `CLIPTextModel` file of any age to this module's.

    Files written before transformers 5 carry the prefix `text_model.`, and the oldest also a
    buffer of positions.
    """
    named = {key.removeprefix("text_model."): value for key, value in tensors.items()}
    named.pop("embeddings.position_ids", None)
    return named
