"""What is read of a training: averages of what trained, and what was frozen."""

import json

import jax
import numpy as np
import pytest

from rbjax.inference import model_loading
from rbjax.train import checkpoints, state
from tests.helpers import tiny_pipeline, tiny_saved_model


class Data:
    """Stands for the iterator of a training's data."""

    def get_state(self):
        return {}


@pytest.fixture(scope="module")
def model():
    return tiny_saved_model.model()


@pytest.fixture(scope="module")
def workdir(model, tmp_path_factory):
    """A run of two checkpoints: averages are 2 at step 1 and 3 at step 2, the rest is as made."""
    folder = tmp_path_factory.mktemp("run")
    train = tiny_pipeline.train_config(trained=("retrinet.*",), frozen=("text_encoder.*",))
    config = model.config.copy_and_resolve_references()
    config.train = train
    config.model.vae = {}  # as configs/ say that the latents are BlockDCT's
    (folder / "config.json").write_text(config.to_json())
    model.tokenizer.save(str(folder / checkpoints.TOKENIZER))
    start = state.init(model.params, train, 2)
    for step, value in ((1, 2.0), (2, 3.0)):
        ema = jax.tree.map(lambda x, value=value: np.full_like(x, value), start.ema)
        checkpoints.save(folder, step, state=start.replace(ema=ema), data=Data())
    return folder


def test_averages_of_the_newest_checkpoint_and_frozen_parameters(model, workdir):
    loaded = model_loading.load_model(workdir)
    expected, found = tiny_saved_model.flat(model.params), tiny_saved_model.flat(loaded.params)
    assert expected.keys() == found.keys()
    for key, value in found.items():
        wanted = expected[key] if "text_encoder" in key else np.full_like(value, 3.0)
        np.testing.assert_array_equal(value, wanted, err_msg=key)
    assert loaded.graphdef == model.graphdef and loaded.step == 2


def test_a_run_without_a_finished_checkpoint_says_so(workdir, tmp_path):
    for name in ("config.json", checkpoints.TOKENIZER):
        (tmp_path / name).write_text((workdir / name).read_text())
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no finished checkpoint"):
        checkpoints.load_model(tmp_path)


def test_a_folder_without_configuration_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not the workdir of a training"):
        checkpoints.load_model(tmp_path)


def test_lists_of_the_file_are_tuples_again(workdir):
    kinds = checkpoints.load_model(workdir).config.model.unet.down_block_types
    assert kinds == tuple(
        json.loads((workdir / "config.json").read_text())["model"]["unet"]["down_block_types"]
    )


def test_the_computations_dtype_may_be_another(workdir):
    assert checkpoints.load_model(workdir).config.model.unet.dtype == "float32"
    other = checkpoints.load_model(workdir, "bfloat16").config.model
    assert other.unet.dtype == "bfloat16" and not other.vae
