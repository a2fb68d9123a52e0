"""The smallest pipeline as a saved model: 8 px images, prompts of six tokens."""

import dataclasses

import jax
import numpy as np
import small
from flax import nnx
from ml_collections import ConfigDict

from rbjax.data import prompts
from rbjax.diffusion.schedule import Schedule
from rbjax.interop import model_folder
from rbjax.interop.model_folder import Model

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
    graphdef, abstract = nnx.split(model_folder.abstract_pipeline(settings, tokenizer), nnx.Param)
    params = small.random_params(nnx.to_pure_dict(abstract), seed)
    return Model(settings, tokenizer, graphdef, params)


def flat(params: dict) -> dict[str, np.ndarray]:
    """Arrays by path."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(value) for path, value in leaves}
