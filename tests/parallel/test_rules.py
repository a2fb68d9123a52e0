"""The table from parameter names to axes of the mesh."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rbjax.parallel import mesh as mesh_lib
from rbjax.parallel import rules
from rbjax.train import state as state_lib
from tests.helpers import tiny_pipeline


@pytest.fixture(scope="module")
def mesh():
    return mesh_lib.make_mesh(2, 2, 2)


def test_first_match_wins(mesh):
    assert rules.spec("attn/to_out/0/kernel", (8, 8), mesh) == P("tensor", "fsdp")
    assert rules.spec("attn/to_q/kernel", (8, 8), mesh) == P("fsdp", "tensor")


def test_the_axes_of_the_table_are_the_last_ones(mesh):
    assert rules.spec("conv_in/kernel", (3, 3, 8, 16), mesh) == P(None, None, "fsdp", None)


@pytest.mark.parametrize(
    "shape, expected", [((7, 8), P(None, "tensor")), ((8, 5), P("fsdp", None))]
)
def test_axes_that_do_not_divide_are_not_split(mesh, shape, expected):
    assert rules.spec("to_q/kernel", shape, mesh) == expected


def test_unmatched_large_parameter_is_an_error(mesh):
    with pytest.raises(ValueError, match="no sharding rule matches gate .*parallel/rules.py"):
        rules.spec("gate", (512, 513), mesh)


def test_unmatched_small_parameter_is_copied(mesh):
    assert rules.spec("step", (), mesh) == P()
    assert rules.spec("gate", (512, 512), mesh) == P()


def test_every_parameter_of_a_pipeline_is_matched(mesh, monkeypatch):
    monkeypatch.setattr(rules, "LARGE", 0)
    params = tiny_pipeline.params_of(tiny_pipeline.pipeline())
    assert jax.tree.leaves(rules.shardings(params, mesh))


def test_moments_are_split_as_their_parameters(mesh):
    params = tiny_pipeline.params_of(tiny_pipeline.pipeline())
    state = jax.eval_shape(lambda p: state_lib.init(p, tiny_pipeline.train_config(), 3), params)
    found = rules.shardings(state, mesh)
    adam = found.opt_state[1][0]
    assert adam.mu == found.trained and adam.nu == found.trained and found.ema == found.trained


def test_shards_are_smaller_than_the_whole(mesh):
    kernel = np.zeros((8, 16), np.float32)
    placed = jax.device_put(
        {"to_q": {"kernel": kernel}}, rules.shardings({"to_q": {"kernel": kernel}}, mesh)
    )
    assert {s.data.shape for s in placed["to_q"]["kernel"].addressable_shards} == {(4, 8)}
