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

PLACE_WEIGHT = 0.3  # of the loss of places


class Tagger(nnx.Module):
    """A vision model and, for each attribute, a look at its states and a linear layer.

    An attribute's look is a softmax over the patches, equal wherever a figure is. Where the drawing
    shows an attribute is known and trained too: without, moving figures take many times longer.
    """

    def __init__(self, vision: VisionModel, texts: Texts, rngs: nnx.Rngs) -> None:
        attributes, values = texts.answers.shape[:2]
        width = vision.embeddings.position_embedding[0].shape[-1]
        self.vision = vision
        self.look = nnx.Linear(width, attributes, rngs=rngs)
        self.heads = nnx.Param(rngs.normal((attributes, width, values)) / width**0.5)

    def loss(self, states: jax.Array, *, labels: jax.Array, places: jax.Array) -> jax.Array:
        """Returns the mean cross-entropy of visible attributes, and that of their places.

        Args:
            states: of class token and patches, [B, 1 + P, D].
            labels: int32 [B, A].
            places: bool [B, A, P], the patches that show an attribute; none if that is unknown.
        """
        patches = states[:, 1:]
        looks = nnx.softmax(self.look(patches), axis=1)  # [B, P, A]
        pooled = jnp.einsum("bpa,bpd->bad", looks, patches)
        logits = jnp.einsum("bad,adv->bav", pooled, self.heads[...])
        found = jnp.log(jnp.einsum("bpa,bap->ba", looks, places) + 1e-4)
        known = (labels >= 0) & places.any(axis=-1)
        missed = -jnp.sum(found * known) / jnp.maximum(jnp.sum(known), 1)
        return mean_cross_entropy(logits, labels) + PLACE_WEIGHT * missed


class ModelAndTagger(nnx.Module):
    """The entire model, and the tagger of its vision model."""

    def __init__(self, model: BlipForQuestionAnswering, tagger: Tagger) -> None:
        self.model = model
        self.tagger = tagger


def mean_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean over labels [...] that are not negative, of logits [..., V]; 0 of none."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return jnp.sum(losses * (labels >= 0)) / jnp.maximum(jnp.sum(labels >= 0), 1)


def tagging_loss(
    modules: ModelAndTagger, images: jax.Array, *, labels: jax.Array, places: jax.Array
) -> jax.Array:
    """Returns the loss of the first phase: images [B, H, W, 3]; the others as of `Tagger.loss`."""
    states = modules.model.vision_model(images)
    return modules.tagger.loss(states, labels=labels, places=places)


def answer_loss(
    modules: ModelAndTagger,
    images: jax.Array,
    *,
    labels: jax.Array,
    places: jax.Array,
    questions: jax.Array,
    answers: jax.Array,
) -> jax.Array:
    """Returns the loss of the second phase: of answers, plus that of the first.

    Args:
        modules: what trains.
        images: float32 [B, H, W, 3] in [-1, 1].
        labels: int32 [B, A], as of `training_data.Images`.
        places: bool [B, A, P], as of `Tagger.loss`.
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
    tagging = modules.tagger.loss(states, labels=labels, places=places)
    return mean_cross_entropy(logits, answers) + tagging
