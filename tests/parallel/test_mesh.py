"""The mesh and the sizes that fit on it."""

import jax
import numpy as np
import pytest

from rbjax.parallel import mesh as mesh_lib


def test_minus_one_takes_the_devices_that_are_left():
    assert dict(mesh_lib.make_mesh(-1, 2, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.mark.parametrize("sizes", [(4, 2, 2), (1, 0, 1), (-1, 16, 1), (-1, 0, 1)])
def test_meshes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="config.mesh: .* there are 8"):
        mesh_lib.make_mesh(*sizes)


def test_devices_that_are_left_over_are_told(caplog):
    mesh_lib.make_mesh(-1, 3, 1)
    assert "config.mesh uses 6 of 8 devices" in caplog.text


@pytest.mark.parametrize("size", [0, 2, 6])
def test_batches_that_do_not_divide_are_refused(size):
    mesh = mesh_lib.make_mesh(2, 2, 2)
    with pytest.raises(ValueError, match=f"config.batch_size={size} .* multiple of 4"):
        mesh_lib.check_batch(mesh, size)


def test_the_refusal_names_the_field():
    with pytest.raises(ValueError, match="config.eval.batch_size=3 "):
        mesh_lib.check_batch(mesh_lib.make_mesh(2, 2, 2), 3, field="config.eval.batch_size")


def test_batches_that_divide_are_accepted():
    mesh_lib.check_batch(mesh_lib.make_mesh(2, 2, 2), 12)


def test_batch_is_split_over_data_and_fsdp():
    mesh = mesh_lib.make_mesh(2, 2, 2)
    placed = jax.device_put(np.zeros((8, 3)), mesh_lib.batch_sharding(mesh))
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}


def test_no_batch_is_no_batch():
    with pytest.raises(ValueError, match="--batch_size=0 .*use a positive multiple of 2"):
        mesh_lib.check_batch(mesh_lib.make_mesh(2, 1, 1), 0, field="--batch_size")
