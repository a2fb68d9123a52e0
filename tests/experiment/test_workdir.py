"""Working directories: one run each, one configuration each, never half a file."""

import errno
import json
import pathlib
import types

import numpy as np
import pytest
from etils import epath
from safetensors.numpy import save_file

from rbjax.experiment import workdir
from rbjax.text.tokenizer import word_tokenizer
from tests.helpers import tiny_run


@pytest.fixture
def config():
    return tiny_run.config("").copy_and_resolve_references()


def test_another_configuration_is_refused_with_its_fields(config, tmp_path):
    workdir.check_workdir(config, tmp_path)
    workdir.write_config(config, tmp_path)
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    config.update_from_flattened_dict({"seed": 5, "data.size": 24})
    with pytest.raises(ValueError) as error:
        workdir.check_workdir(config, tmp_path)
    lines = str(error.value).splitlines()
    assert lines[1:3] == ["  data.size: 12 there, 24 now", "  seed: 0 there, 5 now"]
    assert len(lines) == 4
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_a_run_without_a_checkpoint_leaves_its_directory_to_others(config, tmp_path):
    """As one does that was too large for the memory, also while it saved."""
    workdir.write_config(config, tmp_path)
    (tmp_path / "checkpoints/3.orbax-checkpoint-tmp-0").mkdir(parents=True)
    config.batch_size = 2
    workdir.check_workdir(config, tmp_path)


def test_a_url_is_refused_before_anything_is_made(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--workdir=gs:/bucket/run is a URL"):  # no longer one
        workdir.check_workdir(config, pathlib.Path("gs://bucket/run"))
    assert not list(tmp_path.iterdir())


def test_settings_that_do_not_change_training_may_change(config, tmp_path):
    workdir.write_config(config, tmp_path)
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    changes = {"total_steps": 9, "eval.prompts": 3, "mesh.fsdp": 2, "log_every": 1, "data_dir": "x"}
    changes |= {"data.cached_latents": True, "data.threads": 7, "train.accumulate": 2}
    changes |= {"data.cache": False, "data.store_latents": True}
    config.update_from_flattened_dict(changes)
    workdir.check_workdir(config, tmp_path)


def test_words_of_a_run_that_goes_on_keep_their_ids(tmp_path):
    words = word_tokenizer({"tags": {"red hair": {}}})
    words.save(str(tmp_path / workdir.TOKENIZER))
    assert workdir.read_tokenizer(tmp_path) is None
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    assert workdir.read_tokenizer(tmp_path).get_vocab() == words.get_vocab()
    (tmp_path / workdir.TOKENIZER).unlink()  # of an older version
    assert workdir.read_tokenizer(tmp_path) is None


def pretrained(folder: pathlib.Path, value: float) -> types.SimpleNamespace:
    """Stands for a folder of Stable Diffusion."""
    for part in ("unet", "vae", "text_encoder"):
        (folder / part).mkdir(parents=True)
        save_file({"w": np.full(3, value)}, folder / part / "model.safetensors")
    return types.SimpleNamespace(folder=folder)


def test_a_run_goes_on_with_the_same_weights_at_any_place(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    first, others = pretrained(tmp_path / "a", 1.0), pretrained(tmp_path / "b", 2.0)
    workdir.check_pretrained(others, run)
    workdir.check_pretrained(first, run)  # there is no checkpoint yet
    (run / "checkpoints/3").mkdir(parents=True)
    workdir.check_pretrained(pretrained(tmp_path / "moved", 1.0), run)
    with pytest.raises(ValueError, match=f"{tmp_path}/b/unet, .*text_encoder are not those"):
        workdir.check_pretrained(others, run)
    (run / "pretrained.json").unlink()  # as older versions left a run
    (run / "config.json").write_text(json.dumps({"pretrained": str(tmp_path / "b")}))
    workdir.check_pretrained(others, run)
    with pytest.raises(ValueError, match="it is not known whether its weights are those"):
        workdir.check_pretrained(first, run)


def test_the_same_configuration_is_accepted(config, tmp_path):
    workdir.write_config(config, tmp_path)
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    workdir.check_workdir(config, tmp_path)


def test_where_locks_are_unknown_it_is_said(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(37, "No locks available")

    said = []
    monkeypatch.setattr(workdir.fcntl, "flock", refused)
    monkeypatch.setattr(workdir.logging, "warning", lambda text, *values: said.append(text))
    with workdir.lock(tmp_path):
        assert len(said) == 1 and "cannot be locked" in said[0]


def test_a_directory_serves_one_run_at_a_time(tmp_path):
    with workdir.lock(tmp_path):
        with pytest.raises(ValueError, match="is in use by another run"):
            with workdir.lock(tmp_path):
                pass
    with workdir.lock(tmp_path):
        pass


def test_directory_that_cannot_be_written_is_refused(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match="cannot write to --workdir=.*choose another"):
        workdir.check_workdir(config, tmp_path / "file" / "run")


def test_a_write_that_fails_leaves_the_old_configuration(config, tmp_path, monkeypatch):
    workdir.write_config(config, tmp_path)
    text = (tmp_path / "config.json").read_text()

    def full(path, text):
        path.write_bytes(text.encode()[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(epath.Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        workdir.write_config(config, tmp_path)
    assert (tmp_path / "config.json").read_text() == text


def test_checking_leaves_no_configuration_behind(config, tmp_path):
    workdir.check_workdir(config, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_losses_after_the_step_that_is_resumed_are_dropped(tmp_path):
    assert workdir.read_loss_history(tmp_path, 0) == []
    workdir.write_loss_history(tmp_path, [(2, 0.5), (4, 0.25), (6, 0.125)])
    assert workdir.read_loss_history(tmp_path, 4) == [(2, 0.5), (4, 0.25)]


def test_a_request_is_taken_once(tmp_path):
    workdir.request(tmp_path, "sample_now")
    assert not workdir.take_request(tmp_path, "save_now")
    assert workdir.take_request(tmp_path, "sample_now")
    assert not workdir.take_request(tmp_path, "sample_now")


def test_requests_have_known_names(tmp_path):
    with pytest.raises(ValueError, match="use one of sample_now, save_now"):
        workdir.request(tmp_path, "../stop")
    assert not list(tmp_path.iterdir())
