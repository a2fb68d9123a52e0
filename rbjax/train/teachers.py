"""The base model as RetriNet's teacher (`config.train.target="base"`, ours).

The target of an example is then not its image but what the model of `config.pretrained` predicts of
the same noisy latents when its prompt names all tags of the image, those that the references carry
among them. As far as the tags say what the references show, and that prediction is the mean of the
images with these tags, the best RetriNet stays the same; and the target does not vary as images do,
so that a batch says more. What no tag says (the noses of avatars) is averaged over, whatever the
references show; what does not fit into a prompt is not heard.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from rbjax.experiment.setup import Experiment
from rbjax.models.batch import Batch
from rbjax.models.params import Tree, merge, nnx_state
from rbjax.models.pipeline import Pipeline
from rbjax.parallel import rules


def load(exp: Experiment) -> Tree | None:
    """Reads the teacher's parameters, text encoder and UNet, into their shards; None: no teacher.

    Raises:
        FileNotFoundError, ValueError: as of `StableDiffusion.load_params`.
    """
    if exp.config.train.target == "image":
        return None
    assert exp.pretrained is not None  # config_checks
    return exp.pretrained.load_text_to_image(exp.mesh)


def of(graphdef: nnx.GraphDef, params: Tree, teacher: Tree | None) -> Pipeline | None:
    """Returns a pipeline with the teacher's parameters in place of the student's."""
    if teacher is None:
        return None
    return nnx.merge(graphdef, nnx_state(merge(params, rules.gather(teacher))))


def predict(teacher: Pipeline, batch: Batch, noisy: jax.Array, timesteps: jax.Array) -> jax.Array:
    """Returns what the UNet predicts of noisy latents [B, h, w, C] with all tags as the prompt."""
    assert batch.all_tags is not None  # Experiment.examples
    states = teacher.encode_text(jnp.asarray(batch.all_tags))
    return jax.lax.stop_gradient(teacher.retrinet.unet(noisy, timesteps, states))
