"""The smallest pipeline as a saved model: 8 px images, prompts of six tokens."""

import dataclasses

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from rbjax.diffusion.schedule import Schedule
from rbjax.interop.saved_model import Model
from rbjax.models import pipeline
from rbjax.text import tokenizer as tokenizer_lib
from tests.helpers import tiny_pipeline

TAGS = {tag: {"kind": "free"} for tag in ("smile", "open mouth", "red background")}
SAMPLING = {"steps": 2, "method": "euler", "guidance_references": 2.0, "guidance_prompt": 3.0}


def config(view: str = "in_place", **retrieval) -> ConfigDict:
    """The sections of a saved model's configuration."""
    schedule = Schedule(betas="rectified_flow", prediction_type="sample")
    return ConfigDict(
        {
            "model": tiny_pipeline.model_config(**retrieval),
            "data": {"size": tiny_pipeline.SIZE, "view": view, "max_tokens": tiny_pipeline.TOKENS},
            "noise_schedule": dataclasses.asdict(schedule),
            "sampling": SAMPLING,
        }
    )


def model(seed: int = 0, **changes) -> Model:
    """A model whose references matter."""
    tokenizer, settings = tokenizer_lib.word_tokenizer({"tags": TAGS}), config(**changes)
    graphdef, abstract = nnx.split(pipeline.abstract_pipeline(settings, tokenizer), nnx.Param)
    params = tiny_pipeline.random_params(nnx.to_pure_dict(abstract), seed)
    return Model(settings, tokenizer, graphdef, params)


def flat(params: dict) -> dict[str, np.ndarray]:
    """Arrays by path."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(value) for path, value in leaves}
