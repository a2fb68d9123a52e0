"""What is read from a compiled program."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rbjax.parallel import mesh as mesh_lib
from rbjax.parallel import program

LINES = """
  %a = f32[8,16]{1,0} all-gather(%p), channel_id=1, dimensions={0}
  %b = (bf16[4]{0}, /*index=1*/s8[2,3]{1,0}) all-reduce(%x, %y), to_apply=%add
  %c = (f32[2]{0}, f32[16]{0}) all-gather-start(%p), channel_id=1
  %d = f32[16]{0} all-gather-done(%c)
  %e = pred[] collective-permute(%q)
  %f = f32[8]{0} add(%all-gather.1, %d)
"""


def test_collectives_are_found_with_their_sizes():
    found = program.collectives(LINES)
    assert [(c.kind, c.shapes, c.size) for c in found] == [
        ("all-gather", ((8, 16),), 512),
        ("all-reduce", ((4,), (2, 3)), 14),
        ("all-gather", ((16,),), 64),
        ("collective-permute", ((),), 1),
    ]
    assert program.summary(found)["all-gather"] == (2, 576)


def test_a_compiled_sum_over_devices_is_one_all_reduce():
    mesh = mesh_lib.make_mesh(8, 1, 1)
    x = jax.ShapeDtypeStruct((8, 5), np.float32, sharding=mesh_lib.batch_sharding(mesh))
    total = jax.jit(lambda x: x.sum(0), out_shardings=mesh_lib.replicated(mesh))
    (found,) = program.collectives(total.lower(x).compile().as_text())
    assert found == ("all-reduce", ((5,),), 20)


@pytest.mark.parametrize("axes, expected", [(P(), 64), (P("fsdp"), 16), (P("fsdp", "tensor"), 8)])
def test_bytes_of_a_device_are_those_of_its_shard(axes, expected):
    sharding = NamedSharding(mesh_lib.make_mesh(1, 4, 2), axes)
    array = jax.ShapeDtypeStruct((4, 4), np.float32, sharding=sharding)
    assert program.device_bytes({"a": array, "b": {"c": array}}) == 2 * expected
