"""A saved RetriNet as the start of a training (`config.init_from`)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from rbjax.experiment.setup import Experiment
from rbjax.interop import huggingface, saved_model, shipped_base
from rbjax.interop.saved_model import Model
from rbjax.models import params as params_lib
from rbjax.models.params import Tree
from rbjax.models.pipeline import abstract_pipeline

ENCODERS = {"autoencoder": "vae", "text_encoder": "text_encoder"}  # folder of `pretrained`
COMPUTED = ("dtype", "remat")  # fields of a model's section that change no parameter


def load_params(exp: Experiment) -> Tree:
    """Reads the parameters of the saved model that `config.init_from` names into their shards.

    Its RetriNet is taken. With `config.pretrained` the encoders that stay frozen are that
    folder's, of which the saved model may hold copies rounded to float16.

    Raises:
        FileNotFoundError: parts of the saved model are missing.
        ValueError: it has other sizes, words or noise, or was trained with other encoders.
    """
    model = saved_model.load(shipped_base.start_folder(exp.config.init_from), mesh=exp.mesh)
    _check_fit(model, exp)
    params = model.params
    if not exp.pretrained:
        return params
    train = exp.config.train
    trained, _ = params_lib.split_trained(params, list(train.trained), list(train.frozen))
    pipeline = abstract_pipeline(exp.config, exp.tokenizer)
    for name in ENCODERS.keys() - trained.keys():
        encoder = getattr(pipeline, name)
        huggingface.fill(encoder, exp.pretrained.folder / ENCODERS[name], exp.mesh)
        own = nnx.to_pure_dict(nnx.state(encoder, nnx.Param))
        if not _is_copy(params[name], own):
            raise ValueError(
                f"config.init_from={exp.config.init_from!r} was trained with another {name} than "
                f"that of config.pretrained={exp.config.pretrained!r}: give the folder that it "
                "started from"
            )
        params[name] = own
    return params


def _check_fit(model: Model, exp: Experiment) -> None:
    """Raises ValueError, with all reasons, where the saved model is not what is to be trained."""
    there, here = (_settings(config) for config in (model.config, exp.config))
    wrong = [
        f"config.{field}: {there[field]!r} there, {here[field]!r} here"
        for field in sorted(there.keys() & here.keys())  # what a configuration leaves out is usual
        if there[field] != here[field]
    ]
    if model.tokenizer.get_vocab() != exp.tokenizer.get_vocab():
        words, own = (each.tokenizer.get_vocab_size() for each in (model, exp))
        wrong.append(f"its vocabulary is another ({words} tokens there, {own} here)")
    pipeline = abstract_pipeline(exp.config, exp.tokenizer)
    if not wrong and _shapes(model.params) != _shapes(nnx.to_pure_dict(nnx.state(pipeline))):
        wrong.append("its parameters have other shapes")
    if wrong:
        raise ValueError(
            f"config.init_from={exp.config.init_from!r} is another model than this configuration "
            "describes:\n  " + "\n  ".join(wrong)
        )


def _settings(config: ConfigDict) -> dict[str, Any]:
    """Returns the fields that decide what the parameters mean, by name; lists as tuples."""
    tree = {name: config[name].to_dict() for name in ("model", "noise_schedule")}
    return {
        ".".join(path): tuple(value) if isinstance(value, list) else value
        for path, value in nnx.traversals.flatten_mapping(tree).items()
        if path[-1] not in COMPUTED
    }


def _shapes(params: Tree) -> dict[tuple[Any, ...], tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in nnx.traversals.flatten_mapping(params).items()}


def _is_copy(params: Tree, others: Tree) -> bool:
    """Returns whether all parameters are equal, up to their rounding to float16."""

    def is_close(one: jax.Array, other: jax.Array) -> bool:
        return one.shape == other.shape and bool(jnp.allclose(one, other, rtol=1e-3, atol=1e-6))

    if jax.tree.structure(params) != jax.tree.structure(others):
        return False
    return all(jax.tree.leaves(jax.tree.map(is_close, params, others)))
