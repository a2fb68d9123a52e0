"""A saved model without the weights that the shipped base holds is read as the whole one."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from configs import composition
from rbjax.interop import safetensors_files, saved_model, shipped_base, stable_diffusion
from scripts import export_pytorch
from tests.helpers import tiny_saved_model

NAME = "diffusion_pytorch_model.safetensors"
TRAINED = ("up_blocks.", "conv_norm_out.", "conv_out.")  # of the UNet


@pytest.fixture
def whole(tmp_path):
    """A model in float16; its time embedding is that of its retrieval encoder, as in a training."""
    folder = tmp_path / "whole"
    saved_model.save(tiny_saved_model.model(), folder, np.float16)
    tensors = load_file(folder / "retrinet" / NAME)
    for key in tensors:
        if key.startswith("retrieval_encoder.time_embedding."):
            tensors[key] = tensors[key.replace("retrieval_encoder.", "unet.")]
    save_file(tensors, folder / "retrinet" / NAME)
    return folder


@pytest.fixture
def base(whole, tmp_path, monkeypatch):
    """The base it was trained from: other values where training changes them."""
    folder = tmp_path / "base"
    for part in ("text_encoder", "vae"):
        shutil.copytree(whole / part, folder / part)
    unet = {
        key.removeprefix("unet."): value + 1 if any(name in key for name in TRAINED) else value
        for key, value in load_file(whole / "retrinet" / NAME).items()
        if key.startswith("unet.")
    }
    (folder / "unet").mkdir()
    save_file(unet, folder / "unet" / NAME)
    monkeypatch.setattr(shipped_base, "BASE", folder)
    return folder


def test_what_the_base_holds_is_left_out_and_read_there(whole, base, tmp_path):
    part = shutil.copytree(whole, tmp_path / "part")
    shipped_base.leave_out(part)
    assert all(
        key.startswith("conjunctions.")
        or (key.startswith("retrieval_encoder.") and "time_embedding" not in key)
        or key.removeprefix("unet.").startswith(TRAINED)
        for key in load_file(part / "retrinet" / NAME)
    )
    assert load_file(part / "text_encoder" / "model.safetensors") == {}
    expected, found = (
        tiny_saved_model.flat(saved_model.load(folder).params) for folder in (whole, part)
    )
    assert expected.keys() == found.keys()
    assert all((expected[key] == found[key]).all() for key in expected)


def test_the_exporter_writes_it(whole, base, tmp_path):
    args = f"--format model --half --on_base --checkpoint {whole} --out {tmp_path / 'out'}"
    export_pytorch.main(args.split())
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["base"] == shipped_base.digest()
    size = [(tmp_path / name / "retrinet" / NAME).stat().st_size for name in ("whole", "out")]
    assert size[1] < 0.8 * size[0]


def test_the_option_needs_the_others(capsys):
    with pytest.raises(SystemExit):
        export_pytorch.parse_args(["--out", "x", "--on_base"])
    assert "--on_base needs --format model --half" in capsys.readouterr().err


def test_another_base_than_the_one_it_lacks_is_not_taken_for_it(whole, base, tmp_path):
    part = shutil.copytree(whole, tmp_path / "part")
    shipped_base.leave_out(part)
    before = shipped_base.digest()
    weights = base / "text_encoder" / "model.safetensors"
    save_file({key: value + 1 for key, value in load_file(weights).items()}, weights)
    with pytest.raises(ValueError, match=f"part lacks the weights of the base model '{before}'"):
        saved_model.load(part)


def test_a_model_that_did_not_start_from_the_base_is_not_saved_on_it(base, tmp_path):
    key, weights = "text_model.embeddings.more.weight", base / "text_encoder" / "model.safetensors"
    save_file(load_file(weights) | {key: np.zeros(1, np.float16)}, weights)
    with pytest.raises(ValueError, match="did not start from .*: text_encoder differ"):
        saved_model.save(tiny_saved_model.model(), tmp_path / "out", np.float16, on_base=True)
    assert not (tmp_path / "out").exists()


def test_the_keys_of_a_base_are_those_of_a_saved_model(base):
    expected = shipped_base.tensors("text_encoder").keys()
    weights = base / "text_encoder" / "model.safetensors"
    safetensors_files.add_prefix(weights, "text_model")  # as bases are written
    assert shipped_base.tensors("text_encoder").keys() == expected


def test_a_training_starts_from_it_by_its_name(whole, monkeypatch):
    monkeypatch.setattr(shipped_base, "BASE", whole / "nothing")
    config = composition.get_config("sd15")
    config.pretrained = "shipped"
    with pytest.raises(FileNotFoundError, match="config.pretrained='.*/nothing' is no folder"):
        stable_diffusion.read(config)


def test_what_ships_is_small():
    files = [path for path in shipped_base.BASE.parent.rglob("*") if path.is_file()]
    assert shipped_base.BASE / "model_index.json" in files
    assert sum(path.stat().st_size for path in files) <= 40e6
