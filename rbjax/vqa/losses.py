"""What the two phases of training a VQA model minimise.

Axes: B images, A attributes, V values of an attribute (the most), P patches, D width, Q questions
of an image, T tokens of a question, L of an answer.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from rbjax.models.blip import BlipForQuestionAnswering, VisionModel
from rbjax.vqa.training_data import Texts


class Tagger(nnx.Module):
    """A vision model and a linear layer that tags all attributes at once from all its states."""

    def __init__(self, vision: VisionModel, texts: Texts, rngs: nnx.Rngs) -> None:
        attributes, values = texts.answers.shape[:2]
        length = vision.embeddings.position_embedding[0].size
        self.vision = vision
        self.head = nnx.Linear(length, attributes * values, rngs=rngs)

    def loss(self, states: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns the mean cross-entropy of visible attributes: states [B, P, D], labels [B, A]."""
        logits = self.head(states.reshape(states.shape[0], -1)).reshape(*labels.shape, -1)
        return mean_cross_entropy(logits, labels)


class ModelAndTagger(nnx.Module):
    """The entire model, and the tagger of its vision model."""

    def __init__(self, model: BlipForQuestionAnswering, tagger: Tagger) -> None:
        self.model = model
        self.tagger = tagger


def mean_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean over labels [...] that are not negative, of logits [..., V]."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return jnp.sum(losses * (labels >= 0)) / jnp.sum(labels >= 0)


def tagging_loss(tagger: Tagger, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the loss of the first phase: images [B, H, W, 3], labels [B, A]."""
    return tagger.loss(tagger.vision(images), labels)


def answer_loss(
    modules: ModelAndTagger,
    images: jax.Array,
    *,
    labels: jax.Array,
    questions: jax.Array,
    answers: jax.Array,
) -> jax.Array:
    """Returns the loss of the second phase: of answers, plus that of the first.

    Args:
        modules: what trains.
        images: float32 [B, H, W, 3] in [-1, 1].
        labels: int32 [B, A], as of `training_data.Images`.
        questions: token ids int32 [B, Q, T], padded with 0.
        answers: token ids int32 [B, Q, L], padded with -1.
    """
    model = modules.model
    questions = questions.reshape(-1, questions.shape[-1])
    answers = answers.reshape(-1, answers.shape[-1])
    start = jnp.full((len(answers), 1), model.config.text.bos_token_id, jnp.int32)
    inputs = jnp.concatenate([start, jnp.maximum(answers[:, :-1], 0)], axis=1)
    states = model.vision_model(images)
    asked = model.text_encoder(questions, questions != 0, states=states)
    logits = model.text_decoder(inputs, None, states=asked, state_mask=questions != 0)
    return mean_cross_entropy(logits, answers) + modules.tagger.loss(states, labels)
