"""Settings that cannot work, and working directories that belong to another run."""

import errno
import json

import pytest
from etils import epath

from rbjax.experiment import config_checks, workdir
from rbjax.experiment import setup as setup_lib
from tests.helpers import tiny_run


@pytest.fixture
def config():
    return tiny_run.config("").copy_and_resolve_references()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data.faces": 0, "data.clothes": 0}, "config.data.faces=0 .* at least one reference"),
        ({"data.faces": -1}, "config.data.faces=-1"),
        ({"data.tasks.composition": 0.0}, "config.data.tasks=.* not all 0"),
        ({"data.tasks.same_outfit": -1.0}, "config.data.tasks="),
        ({"data.drop_both": 0.95}, "drop_both is more than 1"),
        ({"data.prompt_tags": "some"}, "config.data.prompt_tags='some': use 'free' or 'all'"),
        ({"data.view": "whole"}, "config.data.view='whole': use 'crop' or 'in_place'"),
        ({"train.weighting": "snr"}, "config.train.weighting='snr': use 'uniform' or 'velocity'"),
        ({"total_steps": 0}, "config.total_steps=0: must be at least 1$"),
        ({"sample_every": 0}, "config.sample_every=0: .* above total_steps turns it off"),
        ({"eval.prompts": 0}, "config.eval.prompts=0"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
        config_checks.check(config)


def test_unknown_task_is_refused(config):
    with config.unlocked():
        config.data.tasks.imitate = 1.0
    with pytest.raises(ValueError, match="config.data.tasks=.*imitate.*composition"):
        config_checks.check(config)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 12}, "config.batch_size=12"),
        ({"eval.batch_size": 3}, "config.eval.batch_size=3"),
        ({"train.accumulate": 3}, "config.batch_size=8 .* 8 x train.accumulate = 24"),
        ({"train.accumulate": 0}, "config.train.accumulate=0"),
        ({"sampling.method": "magic"}, "magic"),
        ({"data_dir": "/nowhere"}, "config.data_dir='/nowhere' does not exist"),
    ],
)
def test_settings_are_refused_before_data_is_built(config, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        setup_lib.setup(setup_lib.resolve(config))


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


def test_settings_that_do_not_change_training_may_change(config, tmp_path):
    workdir.write_config(config, tmp_path)
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    changes = {"total_steps": 9, "eval.prompts": 3, "mesh.fsdp": 2, "log_every": 1, "data_dir": "x"}
    changes |= {"data.cached_latents": True, "data.threads": 7, "train.accumulate": 2}
    config.update_from_flattened_dict(changes)
    workdir.check_workdir(config, tmp_path)


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


@pytest.mark.parametrize("dtype, warnings", [("float32", 0), ("bfloat16", 1)])
def test_bfloat16_on_a_cpu_is_warned_of(config, monkeypatch, dtype, warnings):
    said = []
    monkeypatch.setattr(setup_lib.logging, "warning", lambda text, *values: said.append(text))
    config.model.unet.dtype = dtype
    setup_lib._warn_of_bfloat16(config)
    assert len([text for text in said if "bfloat16 on CPUs" in text]) == warnings


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
