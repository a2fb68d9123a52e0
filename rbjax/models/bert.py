"""The BERT of BLIP: bidirectional encoder and causal decoder, both with cross-attention.

Attribute names are those of transformers' `BlipTextModel` and `BlipTextLMHeadModel`, so the leaf
rule of `rbjax.interop.huggingface` converts weights. Layer norms come after the residual sum
("post-norm").

Axes: B rows of text, T tokens, D text width, S states per row that cross-attention reads, E their
width, H heads, V vocabulary. A batch of states may have fewer rows than the batch of text: text
rows are then grouped, B = rows of states × questions of each, so that the keys and values of an
image are computed once however many questions it is asked.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from rbjax.models import layers
from rbjax.models.activations import activation
from rbjax.models.attention import attention
from rbjax.models.linear import Linear


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The fields of transformers' `BlipTextConfig` that matter here (no dropout is applied)."""

    vocab_size: int = 30524
    hidden_size: int = 768
    encoder_hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 512
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    bos_token_id: int = 30522
    pad_token_id: int = 0
    sep_token_id: int = 102


class SelfAttention(nnx.Module):
    """Queries from the text; keys and values from `states` of width `state_size`."""

    def __init__(self, config: BertConfig, state_size: int, rngs: nnx.Rngs) -> None:
        size, self.heads = config.hidden_size, config.num_attention_heads
        if size % self.heads:
            raise ValueError(
                f"hidden_size {size} is not a multiple of {self.heads} attention heads."
            )
        self.query = Linear(size, size, rngs=rngs)
        self.key = Linear(state_size, size, rngs=rngs)
        self.value = Linear(state_size, size, rngs=rngs)

    def __call__(
        self,
        hidden: jax.Array,
        states: jax.Array,
        mask: jax.Array | None,
        *,
        causal: bool = False,
    ) -> jax.Array:
        """Returns [B, T, D]; mask: bool [B / n, S], `causal` as of `attention`."""
        rows = states.shape[0]
        query = self.query(hidden).reshape(rows, -1, self.heads, hidden.shape[-1] // self.heads)
        split = (rows, states.shape[1], *query.shape[2:])
        key, value = self.key(states).reshape(split), self.value(states).reshape(split)
        out = attention(query, key, value, mask, causal=causal)
        return out.reshape(hidden.shape)


class ResidualOutput(nnx.Module):
    """Projects, adds the residual, normalises."""

    def __init__(self, config: BertConfig, in_features: int, rngs: nnx.Rngs) -> None:
        self.dense = Linear(in_features, config.hidden_size, rngs=rngs)
        self.LayerNorm = _layer_norm(config, rngs)

    def __call__(self, hidden: jax.Array, residual: jax.Array) -> jax.Array:
        return self.LayerNorm(self.dense(hidden) + residual)


class Attention(nnx.Module):
    """Self- or cross-attention with its output projection."""

    def __init__(self, config: BertConfig, state_size: int, rngs: nnx.Rngs) -> None:
        self.self = SelfAttention(config, state_size, rngs)
        self.output = ResidualOutput(config, config.hidden_size, rngs)

    def __call__(
        self,
        hidden: jax.Array,
        states: jax.Array,
        mask: jax.Array | None,
        *,
        causal: bool = False,
    ) -> jax.Array:
        return self.output(self.self(hidden, states, mask, causal=causal), hidden)


class Dense(nnx.Module):
    """A linear layer and its activation (the wide half of the feed-forward block)."""

    def __init__(self, config: BertConfig, out_features: int, rngs: nnx.Rngs) -> None:
        self.dense = Linear(config.hidden_size, out_features, rngs=rngs)
        self.act = activation(config.hidden_act)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        return self.act(self.dense(hidden))


class Layer(nnx.Module):
    """Self-attention, cross-attention, feed-forward; `causal` concerns self-attention."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs, *, causal: bool) -> None:
        self.causal = causal
        self.attention = Attention(config, config.hidden_size, rngs)
        self.crossattention = Attention(config, config.encoder_hidden_size, rngs)
        self.intermediate = Dense(config, config.intermediate_size, rngs)
        self.output = ResidualOutput(config, config.intermediate_size, rngs)

    def __call__(
        self,
        hidden: jax.Array,
        mask: jax.Array | None,
        *,
        states: jax.Array,
        state_mask: jax.Array | None,
    ) -> jax.Array:
        hidden = self.attention(hidden, hidden, mask, causal=self.causal)
        hidden = self.crossattention(hidden, states, state_mask)
        return self.output(self.intermediate(hidden), hidden)


class Encoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs, *, causal: bool) -> None:
        self.layer = nnx.List(
            [Layer(config, rngs, causal=causal) for _ in range(config.num_hidden_layers)]
        )

    def __call__(
        self,
        hidden: jax.Array,
        mask: jax.Array | None,
        *,
        states: jax.Array,
        state_mask: jax.Array | None,
    ) -> jax.Array:
        for layer in self.layer:
            hidden = layer(hidden, mask, states=states, state_mask=state_mask)
        return hidden


class Embeddings(nnx.Module):
    """Word plus absolute position, normalised."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.normal(0.02)
        size = config.hidden_size
        self.word_embeddings = nnx.Embed(config.vocab_size, size, embedding_init=init, rngs=rngs)
        self.position_embeddings = nnx.Embed(
            config.max_position_embeddings, size, embedding_init=init, rngs=rngs
        )
        self.LayerNorm = _layer_norm(config, rngs)

    def __call__(self, input_ids: jax.Array) -> jax.Array:
        length, limit = input_ids.shape[1], self.position_embeddings.num_embeddings
        if length > limit:
            raise ValueError(
                f"A text of {length} tokens is longer than max_position_embeddings {limit}."
            )
        positions = self.position_embeddings(jnp.arange(length))
        return self.LayerNorm(self.word_embeddings(input_ids) + positions)


class BertModel(nnx.Module):
    """Embeddings and layers; `causal` makes it a decoder."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs, *, causal: bool = False) -> None:
        self.embeddings = Embeddings(config, rngs)
        self.encoder = Encoder(config, rngs, causal=causal)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None,
        *,
        states: jax.Array,
        state_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the last hidden states [B, T, D].

        Args:
            input_ids: int32 [B, T].
            attention_mask: [B, T], nonzero at real tokens; None means all are real.
            states: [B / n, S, E] for any whole n; n consecutive rows of text read one row of
                states.
            state_mask: [B / n, S], nonzero at real states; None means all are real.
        """
        mask = None if attention_mask is None else attention_mask != 0
        state_mask = None if state_mask is None else state_mask != 0
        hidden = self.embeddings(input_ids)
        return self.encoder(hidden, mask, states=states, state_mask=state_mask)


class PredictionHead(nnx.Module):
    """Logits over the vocabulary; the output matrix is the word embedding (tied)."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        self.transform = PredictionTransform(config, rngs)
        self.bias = nnx.Param(jnp.zeros(config.vocab_size))

    def __call__(self, hidden: jax.Array, words: nnx.Embed) -> jax.Array:
        return words.attend(self.transform(hidden)) + self.bias[...]


class PredictionTransform(Dense):
    """Dense, activation, norm."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        super().__init__(config, config.hidden_size, rngs)
        self.LayerNorm = _layer_norm(config, rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        return self.LayerNorm(super().__call__(hidden))


class MLMHead(nnx.Module):
    """Holds the prediction head under transformers' name."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        self.predictions = PredictionHead(config, rngs)


class BertLMHeadModel(nnx.Module):
    """Causal decoder: next-token logits given the states of the question."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        self.bert = BertModel(config, rngs, causal=True)
        self.cls = MLMHead(config, rngs)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None,
        *,
        states: jax.Array,
        state_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits [B, T, V]; arguments as of `BertModel`."""
        hidden = self.bert(input_ids, attention_mask, states=states, state_mask=state_mask)
        return self.cls.predictions(hidden, self.bert.embeddings.word_embeddings)


def _layer_norm(config: BertConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return layers.layer_norm(config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs)
