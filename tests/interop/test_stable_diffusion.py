"""Training on a Stable Diffusion folder: what is read, what trains, what is refused."""

import json
import logging
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from rbjax.diffusion.schedule import Schedule
from rbjax.experiment import setup, workdir
from rbjax.interop import huggingface, stable_diffusion
from rbjax.train import state
from tests.helpers import stable_diffusion_folder, stable_diffusion_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stable_diffusion_folder.write(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def run(folder, avatars_dir):
    """(experiment, state before, state after two updates)."""
    *states, loss = stable_diffusion_run.two_updates(folder, avatars_dir)
    assert np.isfinite(loss)
    return states


def values(folder: pathlib.Path) -> dict[str, np.ndarray]:
    return huggingface.state_dict(huggingface.load(folder, np.float32))


def flat(tree: dict, prefix: str = "") -> dict:
    """Arrays by "/"-joined names."""
    items: dict = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        items |= flat(value, f"{name}/") if isinstance(value, dict) else {name: value}
    return items


def test_the_state_has_the_shapes_that_are_known_before(run):
    exp, before, _ = run
    abstract = state.abstract_state(exp)
    assert jax.tree.structure(abstract) == jax.tree.structure(before)
    for known, array in zip(jax.tree.leaves(abstract), jax.tree.leaves(before), strict=True):
        assert (known.shape, known.dtype) == (array.shape, array.dtype)


def test_the_state_starts_with_the_folder_s_weights(run, folder):
    _, before, _ = run
    params = flat(before.frozen) | flat(before.trained)
    conv = values(folder / "unet")["down_blocks.1.resnets.0.conv1.weight"].transpose(2, 3, 1, 0)
    name = "down_blocks/1/resnets/0/conv1/kernel"
    np.testing.assert_array_equal(params[f"retrinet/unet/{name}"], conv)
    np.testing.assert_array_equal(params[f"retrinet/retrieval_encoder/{name}"], conv)
    bias = values(folder / "vae")["quant_conv.bias"]
    np.testing.assert_array_equal(params["autoencoder/quant_conv/bias"], bias)
    words = values(folder / "text_encoder")["embeddings.token_embedding.weight"]
    key = "text_encoder/embeddings/token_embedding/embedding"
    np.testing.assert_array_equal(params[key], words)
    np.testing.assert_array_equal(params["retrinet/conjunctions/0/zero_conv/kernel"], 0)
    assert {x.dtype for x in params.values()} == {np.dtype(np.float32)}


def test_what_the_paper_freezes_stays_and_the_rest_changes(run):
    _, before, after = run
    jax.tree.map(np.testing.assert_array_equal, after.frozen, before.frozen)
    assert set(before.frozen["retrinet"]["unet"]) == {
        "conv_in",
        "time_embedding",
        "down_blocks",
        "mid_block",
    }
    old, new = flat(before.trained["retrinet"]), flat(after.trained["retrinet"])
    changed = {name.split("/")[0] for name in old if (old[name] != new[name]).any()}
    assert changed == {"unet", "retrieval_encoder", "conjunctions"}


def test_moments_exist_for_what_trains_alone(run):
    _, before, _ = run
    assert set(before.trained) == {"retrinet"}
    assert jax.tree.structure(before.opt_state[1][0].mu) == jax.tree.structure(before.trained)


def test_settings_come_from_the_folder(run, folder):
    exp, _, _ = run
    scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    assert exp.schedule == Schedule.from_config(scheduler)
    assert exp.schedule.betas == "scaled_linear"
    assert exp.config.model.unet.block_out_channels == (8, 16)
    assert exp.config.model.unet.dtype == exp.config.model.vae.dtype == "float32"
    assert exp.tokenizer.get_vocab_size() == exp.config.model.text.vocab_size


@pytest.mark.slow
def test_it_trains_with_remat_and_accumulation_as_sd15_does(folder, avatars_dir):
    changes = {"train.accumulate": 2, "model.unet.remat": True}
    changes |= {"model.unet.dtype": "bfloat16", "model.vae.dtype": "bfloat16"}
    _, before, after, loss = stable_diffusion_run.two_updates(folder, avatars_dir, **changes)
    assert np.isfinite(loss)
    jax.tree.map(np.testing.assert_array_equal, after.frozen, before.frozen)
    assert any(jax.tree.leaves(jax.tree.map(_differ, before.trained, after.trained)))


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a != b).any())


def test_a_resolved_configuration_survives_its_file(run, tmp_path):
    exp, _, _ = run
    workdir.write_config(exp.config, tmp_path)
    (tmp_path / "checkpoints/1").mkdir(parents=True)
    workdir.check_workdir(exp.config, tmp_path)


WITHOUT_TORCH = """
import importlib.abc, pathlib, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "diffusers"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocker())
from tests.helpers import stable_diffusion_run
print("loss", stable_diffusion_run.two_updates(*map(pathlib.Path, sys.argv[1:]))[-1])
"""


def test_it_trains_where_torch_is_not_installed(folder, avatars_dir):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, folder, avatars_dir],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.isfinite(float(done.stdout.split("loss")[-1]))


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="unet, vae, text_encoder, tokenizer missing"):
        setup.resolve(stable_diffusion_run.sd15(tmp_path))


def test_a_name_of_the_hub_and_a_single_file_say_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match="'me/sd15' is no folder here: nothing is downl"):
        setup.resolve(stable_diffusion_run.sd15("me/sd15"))
    (tmp_path / "sd15.safetensors").touch()
    with pytest.raises(ValueError, match="is one file; .*from_single_file"):
        setup.resolve(stable_diffusion_run.sd15(tmp_path / "sd15.safetensors"))


def test_weights_that_cannot_be_read_are_told_before_a_data_set_is_built(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sd")
    path = tmp_path / "sd/unet/diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(FileNotFoundError, match="unet.*pickle can run any code"):
        setup.resolve(stable_diffusion_run.sd15(tmp_path / "sd"))


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "scheduler_config.json is not JSON"),
        ('{"beta_schedule": "own"}', "scheduler_config.json: betas is 'own'"),
        ('{"trained_betas": [0.1]}', "scheduler_config.json: .*trained_betas .* not supported"),
    ],
)
def test_schedulers_that_are_not_supported_are_named(tmp_path, content, message):
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        stable_diffusion.noise_schedule(
            tmp_path, stable_diffusion_run.sd15(tmp_path).noise_schedule
        )


def test_a_retrinet_is_no_start_of_a_training(tmp_path):
    (tmp_path / "retrinet").mkdir()
    with pytest.raises(FileNotFoundError, match="holds a RetriNet.*config.init_from"):
        setup.resolve(stable_diffusion_run.sd15(tmp_path))


def test_no_folder_is_an_error_that_says_what_to_give():
    with pytest.raises(ValueError, match="config.pretrained is empty.*--config.pretrained=DIR"):
        setup.resolve(stable_diffusion_run.sd15(""))


def test_mixed_parts_are_refused_with_all_reasons(tmp_path):
    stable_diffusion_folder.write(tmp_path, text_width=16, latent_channels=3)
    with pytest.raises(ValueError) as error:
        setup.resolve(stable_diffusion_run.sd15(tmp_path))
    assert "width 12, but text_encoder/ writes 16" in str(error.value)
    assert "vae/ has 3 latent channels" in str(error.value)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data.max_tokens": 78}, "config.data.max_tokens=78: text_encoder/ takes at most 77"),
        ({"data.size": 17}, "config.data.size=17 is not a multiple of vae/'s 2 pixels"),
        ({"train.trained": (".*",)}, "config.train.trained includes the autoencoder"),
    ],
)
def test_settings_that_do_not_fit_the_folder_are_refused(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        setup.resolve(stable_diffusion_run.sd15(folder, **changes))


def test_parts_of_another_kind_are_refused(folder, tmp_path):
    for part in ("unet", "vae", "text_encoder"):
        (tmp_path / part).mkdir()
        content = (folder / part / "config.json").read_text()
        (tmp_path / part / "config.json").write_text(content)
    (tmp_path / "tokenizer").mkdir()
    content = (folder / "unet" / "config.json").read_text().replace("UNet2DCond", "UNet3DCond")
    (tmp_path / "unet" / "config.json").write_text(content)
    with pytest.raises(ValueError, match="holds a UNet3DConditionModel, not a UNet2DCond"):
        setup.resolve(stable_diffusion_run.sd15(tmp_path))


def test_a_schedule_that_conflicts_is_said_and_the_configuration_holds(folder, caplog):
    config = stable_diffusion_run.sd15(folder, **{"noise_schedule.prediction_type": "v_prediction"})
    with caplog.at_level(logging.WARNING):
        resolved = setup.resolve(config).config
    assert "prediction_type='v_prediction', but the weights were trained with 'epsilon'" in (
        caplog.text
    )
    assert resolved.noise_schedule.prediction_type == "v_prediction"
    assert resolved.noise_schedule.beta_end == 0.012


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sd")
    path = tmp_path / "sd/text_encoder/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 100}))
    with pytest.raises(ValueError, match="has 514 tokens, text_encoder/ only 100"):
        setup.resolve(stable_diffusion_run.sd15(tmp_path / "sd"))
