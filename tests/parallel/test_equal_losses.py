"""The same program on one device and on eight: what it computes, exchanges and keeps."""

import dataclasses
import functools
import itertools
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from rbjax.data import loader
from rbjax.diffusion.schedule import Schedule
from rbjax.parallel import mesh as mesh_lib
from rbjax.parallel import program
from rbjax.train import state as state_lib
from rbjax.train import step
from rbjax.train.state import TrainState
from tests.helpers import tiny_pipeline

STEPS = 5
ALONE = (1, 1, 1)
FACTORS = [sizes for sizes in itertools.product((1, 2, 4, 8), repeat=3) if np.prod(sizes) == 8]
QUICK = [(1, 8, 1), (2, 2, 2)]  # compiling one takes 15 s
CASES = [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in FACTORS]


@dataclasses.dataclass(frozen=True)
class Run:
    losses: list[float]
    state: TrainState
    collectives: list[program.Collective]
    groups: set[tuple[int, ...]]


def prepare(mesh: jax.sharding.Mesh) -> tuple[TrainState, step.TrainMetrics, jax.stages.Lowered]:
    """The state at step 0, metrics of nothing, and the update, which is not compiled yet."""
    config = tiny_pipeline.train_config()
    graphdef = nnx.split(tiny_pipeline.pipeline())[0]
    params = tiny_pipeline.params_of(tiny_pipeline.pipeline())
    state, shardings = state_lib.create(lambda: params, config, total_steps=STEPS, mesh=mesh)
    update = step.make_update(
        graphdef, schedule=Schedule(), config=config, total_steps=STEPS, key=jax.random.key(0)
    )
    jitted = jax.jit(update, out_shardings=(shardings, mesh_lib.replicated(mesh)))
    zero = jax.device_put(step.TrainMetrics.empty(), mesh_lib.replicated(mesh))
    return state, zero, jitted.lower(state, zero, _batch(mesh, 0))


@functools.cache
def run(sizes: tuple[int, int, int]) -> Run:
    """Trains for five steps on a mesh."""
    mesh = mesh_lib.make_mesh(*sizes)
    with jax.set_mesh(mesh):
        state, zero, lowered = prepare(mesh)
        compiled, losses = lowered.compile(), []
        for number in range(STEPS):
            state, metrics = compiled(state, zero, _batch(mesh, number))
            losses.append(float(metrics.compute()["loss"]))
    text = compiled.as_text()
    return Run(losses, state, program.collectives(text), _groups(text))


def _groups(text: str) -> set[tuple[int, ...]]:
    """The groups of devices that exchange: {{0,1},{2,3}}, or [2,4]<=[4,2]T(1,0) as XLA shortens."""
    lists = re.findall(r"replica_groups=\{(\{[\d,{}]*\})\}", text)
    found = {tuple(map(int, g.split(","))) for each in lists for g in re.findall(r"[\d,]*\d", each)}
    short = r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?"
    for numbers in re.findall(short, text):
        shape, source, order = ([int(n) for n in part.split(",") if n] for part in numbers)
        ids = np.arange(np.prod(source)).reshape(source)
        found |= set(map(tuple, ids.transpose(order or None).reshape(shape).tolist()))
    return found


def _batch(mesh, number):
    arrays = jax.tree.map(np.asarray, tiny_pipeline.batch(8, seed=number))
    return loader.place(arrays, mesh_lib.batch_sharding(mesh))


@pytest.mark.parametrize("sizes", CASES, ids=str)
def test_losses_and_parameters_equal_those_of_one_device(sizes):
    alone, together = run(ALONE), run(sizes)
    np.testing.assert_allclose(together.losses, alone.losses, rtol=1e-5)
    assert len(set(alone.losses)) == STEPS
    for name in ("trained", "ema"):
        one, several = _parameters(alone.state, name), _parameters(together.state, name)
        wrong = [k for k in one if not np.allclose(several[k], one[k], rtol=1e-5, atol=1e-5)]
        assert wrong == [], name


def _parameters(state: TrainState, name: str) -> dict[str, np.ndarray]:
    """Without the keys' biases: softmax ignores them, so that rounding is all of their gradient."""
    flat = nnx.traversals.flatten_mapping(getattr(state, name))
    named = {"/".join(map(str, path)): np.asarray(value) for path, value in flat.items()}
    return {key: value for key, value in named.items() if not key.endswith("k_proj/bias")}


@pytest.mark.parametrize("sizes", [s for s in CASES if s != (1, 8, 1)], ids=str)
def test_all_groups_that_exchange_lie_along_axes(sizes):
    """They are those that distributed.connect connects beforehand."""
    ids = np.arange(8).reshape(sizes)
    expected = set()
    for axes in itertools.product((False, True), repeat=3):
        kept = [axis for axis in range(3) if not axes[axis]]
        order = [*kept, *(axis for axis in range(3) if axes[axis])]
        size = int(np.prod([sizes[axis] for axis in range(3) if axes[axis]]))
        expected |= set(map(tuple, ids.transpose(order).reshape(-1, size).tolist()))
    found = run(sizes).groups
    assert found and found <= expected


@pytest.mark.slow
def test_copies_exchange_nothing_but_sums():
    found = run((8, 1, 1)).collectives
    assert found and {c.kind for c in found} == {"all-reduce"}


def test_fsdp_gathers_parameters_and_never_activations():
    found = run((1, 8, 1))
    parameters = jax.tree.leaves(found.state.trained)
    split = [p for p in parameters if p.sharding.shard_shape(p.shape) != p.shape]
    assert {c.kind for c in found.collectives} <= {"all-gather", "all-reduce", "reduce-scatter"}
    gathered = [s for c in found.collectives if c.kind == "all-gather" for s in c.shapes]
    assert set(gathered) <= {p.shape for p in split}
    assert len(split) <= len(gathered) <= 2 * len(split)  # once, or once more to go backward


def test_bytes_of_a_device_fall_with_fsdp():
    """What no rule splits (norms, biases, axes that do not divide) is a small rest."""
    entire, eighth = (program.device_bytes(run(sizes).state) for sizes in (ALONE, (1, 8, 1)))
    assert entire / 8 <= eighth < 1.5 * entire / 8


COMPILE = """
import jax
from rbjax.parallel import mesh as mesh_lib
from tests.parallel import test_equal_losses

if {free}:
    jax.lax.with_sharding_constraint = lambda x, sharding: x
mesh = mesh_lib.make_mesh{sizes}
with jax.set_mesh(mesh):
    test_equal_losses.prepare(mesh)[2].compile()
"""


@pytest.mark.parametrize(
    "sizes, free",
    [
        ((2, 2, 2), False),
        *(pytest.param(s, False, marks=pytest.mark.slow) for s in FACTORS if s != (2, 2, 2)),
        pytest.param((2, 2, 2), True, marks=pytest.mark.slow),  # XLA left to itself says so
    ],
)
def test_the_compiler_gathers_no_array_against_its_will(sizes, free):
    """XLA tells it to the error stream, and only where it compiles."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE.format(sizes=sizes, free=free)],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0", "JAX_ENABLE_COMPILATION_CACHE": "false"},
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert ("nvoluntary full rematerialization" in done.stderr) == free
