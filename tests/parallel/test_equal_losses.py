"""The same program on one device and on eight."""

import jax
import numpy as np
from flax import nnx

from rbjax.data import loader
from rbjax.diffusion.schedule import Schedule
from rbjax.parallel import mesh as mesh_lib
from rbjax.train import state as state_lib
from rbjax.train import step
from tests.helpers import tiny_pipeline


def losses(data: int, fsdp: int, tensor: int, steps: int = 3) -> list[float]:
    mesh, config = mesh_lib.make_mesh(data, fsdp, tensor), tiny_pipeline.train_config()
    graphdef = nnx.split(tiny_pipeline.pipeline())[0]
    params = tiny_pipeline.params_of(tiny_pipeline.pipeline())
    with jax.set_mesh(mesh):
        state, shardings = state_lib.create(lambda: params, config, total_steps=steps, mesh=mesh)
        update = step.make_update(
            graphdef,
            schedule=Schedule(),
            config=config,
            total_steps=steps,
            key=jax.random.key(0),
        )
        compiled = jax.jit(update, out_shardings=(shardings, mesh_lib.replicated(mesh)))
        found = []
        for number in range(steps):
            arrays = jax.tree.map(np.asarray, tiny_pipeline.batch(8, seed=number))
            batch = loader.place(arrays, mesh_lib.batch_sharding(mesh))
            zero = jax.device_put(step.TrainMetrics.empty(), mesh_lib.replicated(mesh))
            state, metrics = compiled(state, zero, batch)
            found.append(float(metrics.compute()["loss"]))
    return found


def test_losses_on_one_device_equal_those_on_eight():
    alone, together = losses(1, 1, 1), losses(2, 2, 2)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert len(set(alone)) == 3
