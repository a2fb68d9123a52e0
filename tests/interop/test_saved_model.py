"""A saved model comes back as it was, and says what is wrong with a folder."""

import json

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file

from rbjax.interop import saved_model
from tests.helpers import tiny_saved_model

WEIGHTS = "retrinet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def model():
    return tiny_saved_model.model(reference_timestep="target", view="crop")


@pytest.fixture
def folder(model, tmp_path):
    saved_model.save(model, tmp_path)
    return tmp_path


def test_round_trip_is_exact(model, folder):
    loaded = saved_model.load(folder)
    expected, found = tiny_saved_model.flat(model.params), tiny_saved_model.flat(loaded.params)
    assert expected.keys() == found.keys()
    assert all((expected[key] == found[key]).all() for key in expected)
    assert loaded.graphdef == model.graphdef
    assert loaded.schedule == model.schedule
    for section in ("data", "sampling"):
        assert dict(loaded.config[section]) == dict(model.config[section])
    assert loaded.tokenizer.to_str() == model.tokenizer.to_str()


def _files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failure_leaves_the_old_model(folder, monkeypatch):
    before, write = _files(folder), saved_model.save_tokenizer

    def fail(*args, **options):
        write(*args, **options)
        raise OSError("No space left on device")

    monkeypatch.setattr(saved_model, "save_tokenizer", fail)
    with pytest.raises(OSError, match="No space left"):
        saved_model.save(tiny_saved_model.model(seed=1), folder)
    assert _files(folder) == before
    assert [path.name for path in folder.parent.glob(f".{folder.name}*")] == []


def test_a_model_is_replaced_and_files_beside_its_parts_are_kept(model, folder):
    (folder / "vae" / "modeling_block_dct.py").touch()  # of an export, as the next
    (folder / "pipeline.py").touch()
    (folder / "examples").mkdir()
    (folder / "examples" / "README.md").write_text("mine")
    saved_model.save(tiny_saved_model.model(seed=1), folder)
    names = {str(path.relative_to(folder)) for path in _files(folder)}
    assert "examples/README.md" in names
    assert not names & {"vae/modeling_block_dct.py", "pipeline.py"}
    weights = tiny_saved_model.flat(saved_model.load(folder).params)
    expected = tiny_saved_model.flat(tiny_saved_model.model(seed=1).params)
    assert all((weights[key] == expected[key]).all() for key in expected)


@pytest.mark.parametrize("file", ["photo.png", "model_index.json"])
def test_a_folder_with_other_files_is_refused(model, tmp_path, file):
    (tmp_path / file).write_text("{}")
    before = _files(tmp_path)
    with pytest.raises(FileExistsError, match="is not empty .* name another folder"):
        saved_model.save(model, tmp_path)
    assert _files(tmp_path) == before


def test_half_precision_rounds_and_halves(model, folder, tmp_path):
    saved_model.save(model, tmp_path / "half", np.float16)
    expected = tiny_saved_model.flat(model.params)
    found = tiny_saved_model.flat(saved_model.load(tmp_path / "half").params)
    assert all((found[key] == expected[key].astype(np.float16)).all() for key in expected)
    sizes = [(path / WEIGHTS).stat().st_size for path in (folder, tmp_path / "half")]
    tensors = load_file(folder / WEIGHTS)
    assert sizes[0] - sizes[1] >= 2 * sum(t.size for t in tensors.values()) - 64


def test_computation_may_be_in_bfloat16(folder):
    assert saved_model.load(folder, "bfloat16").config.model.unet.dtype == "bfloat16"


def test_lengths_that_transformers_leaves_in_the_tokenizer_are_ignored(model, folder):
    path = folder / "tokenizer" / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=3)
    tokenizer.save(str(path))
    text = "smile, open mouth"
    found = saved_model.load(folder).tokenizer.encode(text).ids
    assert found == model.tokenizer.encode(text).ids
    assert len(found) == 5


@pytest.mark.parametrize(
    "part",
    [
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
        "retrinet/config.json",
        WEIGHTS,
    ],
)
def test_a_missing_part_is_named(folder, part):
    (folder / part).unlink()
    with pytest.raises(FileNotFoundError, match=part.split("/")[0]):
        saved_model.load(folder)


@pytest.mark.parametrize(
    "part, field", [("retrinet", "heads"), ("retrinet", "unet_config"), ("vae", "_class_name")]
)
def test_a_setting_that_is_missing_is_named(folder, part, field):
    path = folder / part / "config.json"
    config = json.loads(path.read_text())
    del config[field]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{path} has no {field}"):
        saved_model.load(folder)


def test_a_damaged_tokenizer_is_named(folder):
    path = folder / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match=f"{path} holds no tokenizer that can be read"):
        saved_model.load(folder)


def test_a_folder_of_stable_diffusion_is_refused(tmp_path):
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "X"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="a StableDiffusionPipeline, not a RetriNet: .* retrinet"):
        saved_model.load(tmp_path)


def test_wrong_keys_are_listed(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["unet.extra"] = tensors.pop("unet.conv_in.bias")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match="/retrinet: (.|\n)*unet.conv_in.bias(.|\n)*unet.extra"):
        saved_model.load(folder)


def test_weights_of_another_width_are_refused(folder):
    path = folder / "retrinet" / "config.json"
    config = json.loads(path.read_text())
    config["unet_config"]["block_out_channels"] = [8, 20]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="misshapen"):
        saved_model.load(folder)
