"""The smallest pipeline of the tests: 8 px images, latents of 4x4, two levels."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from rbjax.models.batch import Batch
from rbjax.models.params import nnx_state, shapes
from rbjax.models.pipeline import Pipeline

VOCABULARY, TOKENS, SIZE = 19, 6, 8


def model_config(**retrieval) -> ConfigDict:
    """A `model` section; arguments change its `retrieval` part."""
    return ConfigDict(
        {
            "patch": 2,
            "luma": 4,
            "chroma": 4,
            "unet": {
                "block_out_channels": (8, 16),
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "layers_per_block": 1,
                "attention_head_dim": 2,
                "cross_attention_dim": 8,
                "norm_num_groups": 4,
                "dtype": "float32",
            },
            "text": {
                "hidden_size": 8,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
            },
            "retrieval": {"heads": 2, "positions": True, "reference_timestep": "zero"} | retrieval,
        }
    )


def train_config(**changes) -> ConfigDict:
    """A `train` section."""
    return ConfigDict(
        {
            "trained": (".*",),
            "frozen": (),
            "learning_rate": 1e-2,
            "warmup_steps": 1,
            "final_rate": 0.1,
            "decay_steps": 0,
            "weight_decay": 0.0,
            "adam_b2": 0.99,
            "clip_norm": 1.0,
            "ema_decay": 0.9,
            "weighting": "uniform",
            "accumulate": 1,
        }
        | changes
    )


def pipeline(seed: int = 0, **retrieval) -> Pipeline:
    """A pipeline whose references matter; numpy draws it: compiling an initialisation is slow."""
    config = model_config(**retrieval)
    sizes = {"vocab_size": VOCABULARY, "max_tokens": TOKENS}
    made = shapes(lambda rngs: Pipeline(config, **sizes, rngs=rngs))
    graphdef, abstract = nnx.split(made)
    return nnx.merge(graphdef, nnx_state(random_params(nnx.to_pure_dict(abstract), seed)))


def random_params(abstract: dict, seed: int) -> dict:
    """Parameters of the usual size in the shapes of a nested dict."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf) -> jax.Array:
        name, values = path[-1].key, rng.normal(size=leaf.shape).astype(np.float32)
        if name == "kernel":
            return jnp.asarray(values / np.sqrt(np.prod(leaf.shape[:-1]), dtype=np.float32))
        return jnp.asarray(values * np.float32(0.1) + np.float32(name == "scale"))

    return jax.tree_util.tree_map_with_path(draw, abstract)


def awaken(retrinet: nnx.Module) -> None:
    """Gives the zero convolutions random weights."""
    for i, conjunction in enumerate(retrinet.conjunctions):
        kernel = conjunction.zero_conv.kernel
        kernel.set_value(jax.random.normal(jax.random.key(i), kernel.shape))


def params_of(module: nnx.Module) -> dict:
    """The parameters as a nested dict."""
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def batch(count: int, references: int = 2, seed: int = 0) -> Batch:
    """A random batch; the last example has one reference fewer."""
    rng = np.random.default_rng(seed)
    mask = np.ones((count, references), bool)
    mask[-1, -1] = False
    arrays = Batch(
        target=rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8),
        prompt=rng.integers(0, VOCABULARY, (count, TOKENS), np.int32),
        references=rng.integers(0, 256, (count, references, SIZE, SIZE, 3), np.uint8),
        concepts=rng.integers(0, VOCABULARY, (count, references, 3), np.int32),
        reference_mask=mask,
        index=np.arange(count, dtype=np.int32),
    )
    return jax.tree.map(jnp.asarray, arrays)
