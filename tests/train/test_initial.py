"""Training further from a saved model: it starts with what was saved, or says what does not fit."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from configs import composition
from rbjax.experiment import setup as setup_lib
from rbjax.experiment import workdir as workdir_lib
from rbjax.inference import model_loading
from rbjax.interop import saved_model
from rbjax.train import loop
from rbjax.train import state as state_lib


def smoke(data_dir, init_from, **changes):
    """The small run of the default, on one device, that starts from a saved model."""
    config = composition.get_config("smoke")
    changes |= {"data_dir": str(data_dir), "init_from": str(init_from), "mesh.data": 1}
    config.update_from_flattened_dict(changes)
    return config


def experiment(*arguments, **changes):
    return setup_lib.setup(setup_lib.resolve(smoke(*arguments, **changes)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The model that ships, with all its weights, in float16."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    saved_model.save(model_loading.load_model(), folder, np.float16)
    return folder


def test_a_training_starts_with_what_was_saved(avatars_dir, whole):
    expected = jax.tree.leaves_with_path(model_loading.load_model().params)
    for init_from in ("shipped", whole):
        exp = experiment(avatars_dir, init_from)
        with jax.set_mesh(exp.mesh):
            state, _ = state_lib.create_state(exp)
        found = dict(jax.tree.leaves_with_path(state.averaged))
        assert len(found) == len(expected)
        for path, value in expected:
            np.testing.assert_array_equal(found[path], value, str(path))
        assert int(state.step) == 0
        jax.tree.map(np.testing.assert_array_equal, state.trained, state.ema)
        # It is not the state of a training that starts from the base: conjunctions read references.
        projections = state.trained["retrinet"]["conjunctions"]
        assert all(np.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(projections))


def test_encoders_that_stay_frozen_are_those_of_pretrained(avatars_dir, whole):
    """Stored latents were made with them, and the saved model's may be rounded."""
    path = whole / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    rounded = {key: value.astype(np.float32) * 1.0004 for key, value in tensors.items()}
    try:
        save_file(rounded, path)
        exp = experiment(avatars_dir, whole)
        with jax.set_mesh(exp.mesh):
            frozen = state_lib.create_state(exp)[0].frozen["autoencoder"]
        own = exp.pretrained.load_params(exp.mesh)["autoencoder"]
        jax.tree.map(np.testing.assert_array_equal, frozen, own)
        save_file({key: value + np.float16(0.1) for key, value in tensors.items()}, path)
        with pytest.raises(ValueError, match="trained with another autoencoder than that of"):
            state_lib.create_state(exp)
    finally:
        save_file(tensors, path)


def test_another_model_is_refused_with_all_reasons(avatars_dir):
    changes = {"model.retrieval.heads": 2, "noise_schedule.prediction_type": "epsilon"}
    exp = experiment(avatars_dir, "shipped", **changes)
    with pytest.raises(ValueError) as error, jax.set_mesh(exp.mesh):
        state_lib.create_state(exp)
    assert "config.model.retrieval.heads: 4 there, 2 here" in str(error.value)
    assert "config.noise_schedule.prediction_type: " in str(error.value)


def test_a_folder_without_a_model_is_refused_before_the_data_set_is_built(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.init_from='.*' holds no saved model: `pyt"):
        loop.train(smoke(tmp_path / "data", tmp_path), tmp_path / "run")
    assert not (tmp_path / "data").exists()


def test_a_run_goes_on_where_the_model_that_it_started_from_is_gone(tmp_path):
    config = smoke(tmp_path, tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="holds no saved model"):
        workdir_lib.check_start(config, tmp_path)
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    workdir_lib.check_start(config, tmp_path)
