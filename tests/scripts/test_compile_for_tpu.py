"""Programs from shapes alone, and for TPUs that are not there."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import base as base_config
from configs import composition
from rbjax.data import dataset as dataset_lib
from rbjax.experiment import setup as setup_lib
from rbjax.parallel import mesh as mesh_lib
from rbjax.parallel import topology
from rbjax.train import ahead_of_time, loop
from rbjax.train import state as state_lib
from tests.helpers import tiny_run

ROOT = pathlib.Path(__file__).parents[2]
HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None


def needs_libtpu(test):
    reason = "libtpu is not installed: pip install -e '.[tpu]'"
    return pytest.mark.slow(pytest.mark.skipif(not HAS_LIBTPU, reason=reason)(test))


def test_training_is_lowered_as_the_loop_compiles_it(avatars_dir):
    config = tiny_run.config(avatars_dir)
    config.mesh.data = -1
    exp = setup_lib.setup(setup_lib.resolve(config))
    with jax.set_mesh(exp.mesh):
        data = loop._batches(exp, exp.open("train"), state_lib.abstract_state(exp))
        batch = loop.loader.place(next(data), mesh_lib.batch_sharding(exp.mesh))
        state, _ = state_lib.create_state(exp)
        jitted = loop.jit_update(exp, state_lib.abstract_state(exp))
        lowered = jitted.lower(state, loop._zero_metrics(exp), batch)
    shapes = ahead_of_time.make_experiment(config, jax.devices())
    assert ahead_of_time.lower_training(shapes).as_text() == lowered.as_text()


def test_the_words_are_those_that_prompts_have(avatars_dir, monkeypatch):
    tags = {"tags": {"red_hair": {}}}
    monkeypatch.setattr(dataset_lib.vocabulary, "read", lambda directory: tags)
    config = tiny_run.config(avatars_dir)
    for is_spaced in (False, True):
        config.data.underscores_as_spaces = is_spaced
        vocabulary = ahead_of_time.make_experiment(config, jax.devices()).tokenizer.get_vocab()
        assert ("red_hair" in vocabulary, "hair" in vocabulary) == (not is_spaced, is_spaced)


def test_without_a_folder_the_sizes_are_those_of_stable_diffusion_15():
    config = composition.sd15()
    config.batch_size, config.train.accumulate = 8, 1
    exp = ahead_of_time.make_experiment(config, jax.devices())
    batch = ahead_of_time.training_arguments(exp)[2]
    assert exp.config.model.unet.block_out_channels == (320, 640, 1280, 1280)
    assert batch.target.shape == (8, 48, 48, 8) and batch.references.shape == (8, 4, 48, 48, 4)
    assert batch.target.dtype == batch.references.dtype == np.float16
    assert batch.prompt.shape == (8, 77) and batch.prompt.dtype == np.int32  # they vary
    exp.config.data.shuffle_tags, exp.config.data.drop_tags = False, 0.0
    batch = ahead_of_time.training_arguments(exp)[2]
    assert batch.prompt.shape == (8, 77, 768) and batch.concepts.shape == (8, 4, 3, 768)
    exp.config.data.crop_jitter = 0.1
    batch = ahead_of_time.training_arguments(exp)[2]
    assert batch.target.shape == (8, 48, 48, 8) and batch.references.dtype == np.uint8
    images = ahead_of_time.training_arguments(exp, ())[2]
    assert images.references.shape == (8, 4, 384, 384, 3) and images.prompt.dtype == np.int32


def test_what_trains_is_not_stored():
    config = base_config.get_config()
    config.mesh.data = 1
    exp = ahead_of_time.make_experiment(config, jax.devices())
    batch = ahead_of_time.training_arguments(exp)[2]
    assert batch.prompt.dtype == np.int32 and batch.target.dtype == np.float16
    exp.config.data.cached_latents = False
    assert ahead_of_time.training_arguments(exp)[2].target.dtype == np.uint8


def test_a_teacher_takes_memory_of_its_own():
    config = composition.sd15()
    config.batch_size, config.train.accumulate, config.train.target = 8, 1, "base"
    exp = ahead_of_time.make_experiment(config, jax.devices())
    state, _, batch, teacher = ahead_of_time.training_arguments(exp)
    assert batch.all_tags.shape == (8, 77) and batch.all_tags.dtype == np.int32
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in teacher.values()]
    assert sizes == [123_060_480, 859_520_964]  # of Stable Diffusion 1.5


@pytest.mark.parametrize("name", ["v4", "v3:2x2x1", "v4:2x2x1x1", "v4:2,2"])
def test_topologies_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match="--topology=.*for example v4:2x2x1"):
        topology.open_topology(name)


def test_without_libtpu_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rbjax\[tpu\]'"):
        topology.open_topology("v4:2x2x1")


class Refused:
    """A program that the compiler refuses with this error."""

    def __init__(self, error):
        self.error = error

    def compile(self, compiler_options):
        raise jax.errors.JaxRuntimeError(self.error)


def test_the_compiler_says_what_it_would_need():
    said = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
    for text, size in {"18.94G": 18.94 * 2**30, "242.35M": 242.35 * 2**20, "12": 12}.items():
        found = topology.estimate(Refused(f"{said}temporaries ({text}) exceeds available HBM"))
        assert found == pytest.approx(size, abs=1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="another"):
        topology.estimate(Refused("another"))


CONFIG = """
from configs import base as base_config
from configs import composition

def get_config():
    c = composition.shortened(composition.from_scratch())
    c.data.dataset = "avatars/tiny"
    c.model.unet.block_out_channels, c.model.unet.norm_num_groups = (8, 16), 4
    return c
"""


def compile_small(data_dir, config, *options: str) -> str:
    """Compiles a few steps from scratch, with a UNet of 8 and 16 channels, for four chips."""
    config.write_text(CONFIG)
    arguments = [f"--config={config}", f"--config.data_dir={data_dir}"]
    arguments += ["--topology=v4:2x2x1", "--config.mesh.fsdp=2"]
    return run_alone("scripts/compile_for_tpu.py", *arguments, *options)


def run_alone(*command: str) -> str:
    """Runs Python with the environment of a command, and returns what it prints."""
    found = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "", "JAX_DEFAULT_MATMUL_PRECISION": "default"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


PRODUCT = """
from rbjax.parallel import topology

topology.set_environment()
import jax

mesh = jax.sharding.Mesh(topology.open_topology("v4:2x2x1")[1], "d")
rows = jax.sharding.NamedSharding(mesh, jax.P("d"))
x = jax.ShapeDtypeStruct((2**20, 256), "float32", sharding=rows)  # 256 MiB of a device
w = jax.ShapeDtypeStruct((256, 3), "float32", sharding=jax.sharding.NamedSharding(mesh, jax.P()))
product = jax.jit(lambda x, w: (x + 1) @ (w @ w.T))
print(topology.argument_bytes((x, w)), topology.estimate(product.lower(x, w)))
huge = jax.ShapeDtypeStruct((2**38,), "float32", sharding=rows)  # 256 GiB
print(topology.argument_bytes([huge]))
"""


@needs_libtpu
def test_what_is_estimated_has_arguments_in_tiles_and_results_once():
    arguments, needed, huge = map(int, run_alone("-c", PRODUCT).split())
    assert (arguments, huge) == (2**28 + 256 * 4 * 4, 2**38)
    assert needed == pytest.approx(2 * 2**28, rel=0.01)


@needs_libtpu
def test_the_small_model_compiles_for_v4(avatars_dir, tmp_path):
    """Both programs; the memory that is estimated lacks the code, which is small."""
    arguments = avatars_dir, tmp_path / "small.py"
    text = compile_small(*arguments)
    for line in ("train on v4:2x2x1, 4 devices (data 2, fsdp 2", "sample on", "of 30.75", "all-g"):
        assert line in text
    needed, told = (
        np.array(re.findall(r"of a device: ([\d.]+) .*arguments ([\d.]+)", found), float)
        for found in (text, compile_small(*arguments, "--memory_only"))
    )
    assert needed.shape == told.shape == (2, 2)
    np.testing.assert_allclose(told[:, 1], needed[:, 1], atol=0.0011)  # rounded to 0.001
    assert (told[:, 0] < needed[:, 0] + 0.002).all() and (needed[:, 0] < told[:, 0] + 0.06).all()
