"""Every configuration builds, passes the checks, and changes what it says."""

import functools
import importlib
import json
import pathlib
import re

import jax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from rbjax.command_line import CONFIGS
from rbjax.experiment import setup
from rbjax.models import params as params_lib
from rbjax.models.pipeline import Pipeline
from tests.helpers import stable_diffusion_folder

ROOT = pathlib.Path(__file__).parents[1]
ABLATIONS = importlib.import_module("configs.ablations").CHANGES
CASES = [
    *(("composition", v) for v in ("avatars", "avatars_long", "avatars_details", "avatars_taught")),
    *(("composition", v) for v in ("smoke", "sd15", "retribooru_smoke")),
    *((name, v) for name in ("same_identity", "reconstruction") for v in ("avatars", "sd15")),
    ("faces", None),
    *(("own_data", v) for v in ("annotated", "folders", "smoke", "folders_smoke")),
    *(("ablations", change) for change in ABLATIONS),
    *(("ablations", f"avatars,{change}") for change in ABLATIONS),
]


def get(name: str, variant: str | None):
    module = importlib.import_module(f"configs.{name}")
    return module.get_config(variant) if variant else module.get_config()


@functools.cache
def abstract_parameters(model: str) -> dict:
    """Of the pipeline that a `model` section, as JSON, describes."""
    config = ConfigDict(json.loads(model))
    pipeline = nnx.eval_shape(
        lambda: Pipeline(config, vocab_size=99, max_tokens=77, rngs=nnx.Rngs(0))
    )
    return nnx.to_pure_dict(nnx.state(pipeline, nnx.Param))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stable_diffusion_folder.write(tmp_path_factory.mktemp("sd"))


@pytest.mark.parametrize("name, variant", CASES)
def test_every_configuration_is_complete(name, variant, folder):
    """Checked, resolved on a Stable Diffusion folder where it names none; each parameter placed."""
    config = get(name, variant)
    if not (config.pretrained or config.model.patch):
        config.pretrained = str(folder)
    resolved = setup.resolve(config).config
    with resolved.unlocked():
        resolved.model.retrieval.reference_timestep = "zero"  # changes no parameter
    params = abstract_parameters(resolved.model.to_json())
    trained, frozen = params_lib.split_trained(
        params, resolved.train.trained, resolved.train.frozen
    )
    assert jax.tree.leaves(trained)
    assert bool(jax.tree.leaves(frozen)) == bool(resolved.pretrained)


def test_configurations_are_installed_with_the_package():
    """setuptools packs what lies below `rbjax/`, through the link there."""
    names = {path.name for path in (ROOT / "configs").glob("*.py")}
    assert {path.name for path in CONFIGS.glob("*.py")} == names > {"own_data.py"}
    assert CONFIGS.parent == ROOT / "rbjax"


def test_reconstruction_and_same_identity_train_their_task_alone():
    for name in ("reconstruction", "same_identity"):
        tasks = get(name, "sd15").data.tasks
        assert {task for task, weight in tasks.items() if weight} == {name}


@pytest.mark.parametrize("rate", [0, 10, 50, 90])
def test_prompt_drop_is_in_percent(rate):
    assert get("ablations", f"drop_prompt_{rate}").data.drop_prompt == rate / 100


def test_trained_modules_of_the_ablations():
    names = ["retrinet/unet/mid_block/x", "retrinet/unet/up_blocks/0", "retrinet/conjunctions/0"]
    expected = {"train_all": (1, 1, 1), "train_encoder": (1, 0, 1), "train_references": (0, 0, 1)}
    for change, wanted in expected.items():
        patterns = get("ablations", change).train.trained
        assert tuple(int(any(re.match(p, n) for p in patterns)) for n in names) == wanted


def test_unknown_changes_are_refused():
    with pytest.raises(ValueError, match="unknown change 'x' of ablations.py: use train_decoder"):
        get("ablations", "avatars,x")
    with pytest.raises(ValueError, match="train_all is about the weights of a pretrained model"):
        get("ablations", "retribooru_smoke,train_all")
