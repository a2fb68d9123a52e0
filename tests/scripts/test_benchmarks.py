"""The programs that the benchmarks measure, at full size but without arrays."""

import jax
import pytest
import torch
from flax import nnx

from rbjax.models import params as params_lib
from rbjax.train import state as states
from rbjax.train import step
from scripts.benchmarks import (
    torch_peer,  # noqa: E402
    train_step,  # noqa: E402
)


def settings(*flags: str):
    args = train_step.parser().parse_args(["--size", "64", "--batch_size", "2", *flags])
    return args, train_step.sd15(64, args)


def test_the_update_can_be_traced():
    args, config = settings("--remat")
    graphdef, make_params = train_step.model(config)
    update = train_step.make_update(config, graphdef)
    state = jax.eval_shape(lambda: states.init(make_params(), config.train, config.total_steps))
    batch = train_step.make_batch(64, 2, args.references)
    after, _ = jax.eval_shape(update, state, step.TrainMetrics.empty(), batch)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)


@pytest.mark.parametrize("flags", [[], ["--tiny"]])
def test_the_peer_has_as_many_parameters(flags):
    args, config = settings(*flags)
    params = jax.eval_shape(train_step.model(config)[1])
    trained, _ = params_lib.split_trained(
        params, list(config.train.trained), list(config.train.frozen)
    )
    with torch.device("meta"):
        parts = train_step.tiny_parts() if args.tiny else train_step.PARTS
        peer = torch_peer.Networks(parts, torch.float32)
    assert count(params) == sum(x.numel() for x in peer.parameters())
    assert count(trained) == sum(x.numel() for x in peer.trained())


def count(params: nnx.State) -> int:
    return sum(x.size for x in jax.tree.leaves(params))
