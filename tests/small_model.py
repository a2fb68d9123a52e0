"""The smallest pipeline as a saved model: 8 px images, prompts of six tokens."""

import dataclasses

import jax
import numpy as np
import small
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import prompts
from rbjax.diffusion.schedule import Schedule
from rbjax.interop.model_folder import Model
from rbjax.models.pipeline import Pipeline

TAGS = {tag: {"kind": "free"} for tag in ("smile", "open mouth", "red background")}
SAMPLING = {"steps": 2, "method": "euler", "guidance_references": 2.0, "guidance_prompt": 3.0}


def config(view: str = "in_place", **retrieval) -> ConfigDict:
    """The sections of a saved model's configuration."""
    schedule = Schedule(betas="rectified_flow", prediction_type="sample")
    return ConfigDict(
        {
            "model": small.model_config(**retrieval),
            "data": {"size": small.SIZE, "view": view, "max_tokens": small.TOKENS},
            "noise_schedule": dataclasses.asdict(schedule),
            "sampling": SAMPLING,
        }
    )


def model(seed: int = 0, **changes) -> Model:
    """A model whose references matter."""
    tokenizer, settings = prompts.word_tokenizer({"tags": TAGS}), config(**changes)
    sizes = settings.model, tokenizer.get_vocab_size(), small.TOKENS
    pipeline = nnx.jit(lambda: Pipeline(*sizes, nnx.Rngs(seed)))()
    small.awaken(pipeline.retrinet)
    return Model(settings, tokenizer, nnx.split(pipeline)[0], small.params_of(pipeline))


def flat(params: dict) -> dict[str, np.ndarray]:
    """Arrays by path."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(value) for path, value in leaves}
