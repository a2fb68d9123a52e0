"""BLIP for visual question answering (arXiv 2201.12086), in Flax NNX.

Image -> ViT -> states; question -> bidirectional BERT that cross-attends to them -> states; answer
= what a causal BERT says that cross-attends to those. Names and numbers are those of
`transformers.BlipForQuestionAnswering`; images are [N, H, W, 3] here, and an image may be asked
several questions at once. Padding of a question is hidden from the decoder, as BLIP was trained,
so that an answer does not depend on the batch; transformers 5 shows it (its cross-attention drops
the mask), which `hide_padding=False` reproduces. For a question without padding the two agree.

Axes: N images, P patches + 1, D width, Q questions of an image, B = N × Q rows of text, T tokens
of a question, A tokens of an answer, V vocabulary.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rbjax.models import layers
from rbjax.models.activations import activation
from rbjax.models.attention import attention
from rbjax.models.bert import BertConfig, BertLMHeadModel, BertModel
from rbjax.models.config_files import known_fields
from rbjax.models.linear import Linear

SHORT = 4  # tokens of most answers: only longer ones are read in full at each token
Answers = tuple[jax.Array, jax.Array, jax.Array]  # tokens, whether they are done, their length


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The fields of transformers' `BlipVisionConfig` that matter here (no dropout is applied)."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 384
    patch_size: int = 16
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5


@dataclasses.dataclass(frozen=True)
class BlipConfig:
    """Vision and text settings.

    Both have one width, because transformers builds the decoder's cross-attention for states as
    wide as the image's and feeds it the question's.
    """

    vision: VisionConfig = VisionConfig()
    text: BertConfig = BertConfig()

    def __post_init__(self) -> None:
        widths = {self.vision.hidden_size, self.text.hidden_size, self.text.encoder_hidden_size}
        if len(widths) > 1:
            raise ValueError(
                f"Vision and text must have the same hidden_size, got {sorted(widths)}."
            )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "BlipConfig":
        """Reads transformers' `config.json` of a BLIP model; absent fields take its defaults."""
        vision = VisionConfig(**known_fields(VisionConfig, config.get("vision_config") or {}))
        text = BertConfig(**known_fields(BertConfig, config.get("text_config") or {}))
        return cls(vision, dataclasses.replace(text, encoder_hidden_size=vision.hidden_size))

    def to_dict(self) -> dict[str, Any]:
        """Returns a `config.json` that transformers reads."""
        return {
            "architectures": ["BlipForQuestionAnswering"],
            "model_type": "blip",
            "vision_config": dataclasses.asdict(self.vision) | {"model_type": "blip_vision_model"},
            "text_config": dataclasses.asdict(self.text) | {"model_type": "blip_text_model"},
        }


class VisionAttention(nnx.Module):
    """Self-attention whose joint projection is laid out as (3, heads, dim)."""

    def __init__(self, config: VisionConfig, rngs: nnx.Rngs) -> None:
        size, self.heads = config.hidden_size, config.num_attention_heads
        if size % self.heads:
            raise ValueError(
                f"hidden_size {size} is not a multiple of {self.heads} attention heads."
            )
        self.qkv = Linear(size, 3 * size, rngs=rngs)
        self.projection = Linear(size, size, rngs=rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        batch, length, size = hidden.shape
        qkv = self.qkv(hidden).reshape(batch, length, 3, self.heads, size // self.heads)
        out = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return self.projection(out.reshape(hidden.shape))


class VisionMLP(nnx.Module):
    """The feed-forward block."""

    def __init__(self, config: VisionConfig, rngs: nnx.Rngs) -> None:
        self.fc1 = Linear(config.hidden_size, config.intermediate_size, rngs=rngs)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size, rngs=rngs)
        self.act = activation(config.hidden_act)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        return self.fc2(self.act(self.fc1(hidden)))


class VisionLayer(nnx.Module):
    """A pre-norm transformer layer."""

    def __init__(self, config: VisionConfig, rngs: nnx.Rngs) -> None:
        self.self_attn = VisionAttention(config, rngs)
        self.layer_norm1 = _layer_norm(config, rngs)
        self.mlp = VisionMLP(config, rngs)
        self.layer_norm2 = _layer_norm(config, rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden))
        return hidden + self.mlp(self.layer_norm2(hidden))


class VisionEmbeddings(nnx.Module):
    """Class token and patches, plus learned positions."""

    def __init__(self, config: VisionConfig, rngs: nnx.Rngs) -> None:
        self.image_size, patch, size = config.image_size, config.patch_size, config.hidden_size
        length = (config.image_size // patch) ** 2 + 1
        self.class_embedding = nnx.Param(0.02 * rngs.normal((1, 1, size)))
        self.position_embedding = nnx.Param(0.2 * rngs.normal((1, length, size)))
        self.patch_embedding = nnx.Conv(
            3, size, (patch, patch), strides=patch, padding="VALID", rngs=rngs
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        expected = (self.image_size, self.image_size, 3)
        if images.shape[1:] != expected:
            raise ValueError(
                f"Expected images [N, {', '.join(map(str, expected))}], got {images.shape}."
            )
        patches = self._patches(images)  # [N, P - 1, D]
        first = jnp.broadcast_to(self.class_embedding[...], (images.shape[0], 1, patches.shape[-1]))
        return jnp.concatenate([first, patches], axis=1) + self.position_embedding[...]

    def _patches(self, images: jax.Array) -> jax.Array:
        """Returns the patch convolution, by one matrix product: on CPUs several times faster."""
        kernel, bias = self.patch_embedding.kernel[...], self.patch_embedding.bias
        assert bias is not None  # built with one
        patch, count = kernel.shape[0], images.shape[1] // kernel.shape[0]
        images = images[:, : count * patch, : count * patch]
        patches = images.reshape(-1, count, patch, count, patch, 3).swapaxes(2, 3)
        flat = patches.reshape(images.shape[0], count * count, -1)
        return flat @ kernel.reshape(-1, kernel.shape[-1]) + bias[...]


class VisionEncoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: VisionConfig, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([VisionLayer(config, rngs) for _ in range(config.num_hidden_layers)])

    def __call__(self, hidden: jax.Array) -> jax.Array:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class VisionModel(nnx.Module):
    """ViT: [N, H, W, 3] -> states [N, P, D]."""

    def __init__(self, config: VisionConfig, rngs: nnx.Rngs) -> None:
        self.embeddings = VisionEmbeddings(config, rngs)
        self.encoder = VisionEncoder(config, rngs)
        self.post_layernorm = _layer_norm(config, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.post_layernorm(self.encoder(self.embeddings(images)))


class BlipForQuestionAnswering(nnx.Module):
    """Answers questions about images."""

    tied_keys = {
        f"text_decoder.cls.predictions.decoder.{leaf}": f"text_decoder.{owner}"
        for leaf, owner in (
            ("bias", "cls.predictions.bias"),
            ("weight", "bert.embeddings.word_embeddings.weight"),
        )
    }
    ignored_keys = ("embeddings.position_ids",)
    unused_keys = (  # of other BLIP models: retrieval's heads and queues, an encoder's pooler
        r"^(?!(vision_model|text_encoder|text_decoder)\.)",
        r"^(text_encoder|text_decoder\.bert)\.pooler\.",
    )

    def __init__(self, config: BlipConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.vision_model = VisionModel(config.vision, rngs)
        self.text_encoder = BertModel(config.text, rngs)
        self.text_decoder = BertLMHeadModel(config.text, rngs)

    def __call__(
        self,
        images: jax.Array,
        input_ids: jax.Array,
        attention_mask: jax.Array | None,
        decoder_input_ids: jax.Array,
        *,
        hide_padding: bool = True,
    ) -> jax.Array:
        """Returns the decoder's logits [B, A, V].

        Args:
            images: float [N, H, W, 3], normalised as the weights expect.
            input_ids: int32 [B, T]; rows i·Q to (i+1)·Q - 1 are the questions of image i.
            attention_mask: [B, T], nonzero at real tokens of a question; None means all.
            decoder_input_ids: int32 [B, A], beginning with `bos_token_id`.
            hide_padding: whether the decoder is kept from the states of padding.
        """
        image_states = self.vision_model(images)
        states = self.question_states(image_states, input_ids, attention_mask)
        state_mask = attention_mask if hide_padding else None
        return self.text_decoder(decoder_input_ids, None, states=states, state_mask=state_mask)

    def question_states(
        self, image_states: jax.Array, input_ids: jax.Array, attention_mask: jax.Array | None
    ) -> jax.Array:
        """Returns the states [B, T, D] of questions about images; arguments as of `__call__`.

        `image_states` [N, P, D] are those of `vision_model`.
        """
        if input_ids.shape[0] % image_states.shape[0]:
            raise ValueError(
                f"{input_ids.shape[0]} questions cannot be shared by {image_states.shape[0]} "
                "images."
            )
        return self.text_encoder(input_ids, attention_mask, states=image_states)

    def first_logits(
        self, image_states: jax.Array, input_ids: jax.Array, attention_mask: jax.Array
    ) -> jax.Array:
        """Returns the logits [B, V] of an answer's first token; arguments as of `generate`."""
        states = self.question_states(image_states, input_ids, attention_mask)
        start = jnp.full((len(input_ids), 1), self.config.text.bos_token_id, jnp.int32)
        return self.text_decoder(start, None, states=states, state_mask=attention_mask)[:, 0]

    def generate(
        self,
        image_states: jax.Array,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        *,
        max_new_tokens: int = 4,
        hide_padding: bool = True,
    ) -> jax.Array:
        """Answers greedily; `image_states` [N, P, D] are those of `vision_model`.

        Returns:
            int32 [B, 1 + max_new_tokens]: `bos_token_id`, the answer, `sep_token_id`, then
            `pad_token_id`.
        """
        text, decoder = self.config.text, self.text_decoder
        states = self.question_states(image_states, input_ids, attention_mask)
        state_mask = attention_mask if hide_padding else None

        def is_unfinished(limit: int, carry: Answers) -> jax.Array:
            _, done, length = carry
            return (length <= limit) & ~jnp.all(done)

        def append(limit: int, carry: Answers) -> Answers:
            tokens, done, length = carry
            read = tokens[:, :limit]  # what comes after `length` is hidden (causal)
            hidden = decoder.bert(read, None, states=states, state_mask=state_mask)
            last = jax.lax.dynamic_slice_in_dim(hidden, length - 1, 1, axis=1)
            logits = decoder.cls.predictions(last, decoder.bert.embeddings.word_embeddings)[:, 0]
            best = jnp.where(done, text.pad_token_id, jnp.argmax(logits, axis=-1))
            tokens = jax.lax.dynamic_update_slice_in_dim(
                tokens, best[:, None].astype(jnp.int32), length, axis=1
            )
            return tokens, done | (best == text.sep_token_id), length + 1

        rows = input_ids.shape[0]
        tokens = jnp.full((rows, 1 + max_new_tokens), text.pad_token_id, jnp.int32)
        tokens = tokens.at[:, 0].set(text.bos_token_id)
        carry = tokens, jnp.zeros(rows, bool), jnp.int32(1)
        for limit in sorted({min(SHORT, max_new_tokens), max_new_tokens}):
            carry = jax.lax.while_loop(partial(is_unfinished, limit), partial(append, limit), carry)
        return carry[0]


def _layer_norm(config: VisionConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return layers.layer_norm(config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs)
