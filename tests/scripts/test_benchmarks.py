"""The programs that the benchmarks measure, at full size but without arrays."""

import jax
import pytest
import torch
from flax import nnx

from rbjax.models import params as params_lib
from rbjax.train import state as state_lib
from rbjax.train import step
from scripts.benchmarks import scoring, sd15_model, torch_peer, train_step
from tests.helpers import blip_folder


def settings(*flags: str):
    parser = sd15_model.make_parser("")
    args = parser.parse_args(["--size", "64", "--batch_size", "2", *flags])
    return args, sd15_model.make_config(args, 64)


def test_the_update_can_be_traced():
    args, config = settings("--remat")
    graphdef, make_params = train_step.make_model(config)
    update = train_step.make_update(config, graphdef)
    state = jax.eval_shape(lambda: state_lib.init(make_params(), config.train, config.total_steps))
    batch = sd15_model.make_batch(64, count=2, references=args.references)
    after, _ = jax.eval_shape(update, state, step.TrainMetrics.empty(), batch)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)


@pytest.mark.parametrize("flags", [[], ["--tiny"]])
def test_the_peer_has_as_many_parameters(flags):
    args, config = settings(*flags)
    params = jax.eval_shape(train_step.make_model(config)[1])
    trained, _ = params_lib.split_trained(
        params, list(config.train.trained), list(config.train.frozen)
    )
    with torch.device("meta"):
        peer = torch_peer.Networks(sd15_model.make_parts(tiny=args.tiny), torch.float32)
    assert count(params) == sum(x.numel() for x in peer.parameters())
    assert count(trained) == sum(x.numel() for x in peer.trained())


def count(params: nnx.State) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def test_scoring_is_timed_in_three_ways_with_the_same_answers(tmp_path, capsys):
    blip_folder.make(tmp_path)
    scoring.main(["--vqa", str(tmp_path), "--images=2", "--questions=3", "--batch_size=4"])
    text = capsys.readouterr().out
    ways = ("transformers, one at a time", "transformers, batched", "rbjax")
    assert [line.startswith(way) for way in ways for line in text.splitlines()].count(True) == 3
    assert "2 images, 3 questions each" in text and "rbjax True" in text
    assert text.count("times as fast") == 2
