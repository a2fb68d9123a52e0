"""Several processes of one run, on this machine."""

import json
import shutil
import signal
import time

import numpy as np
import pytest

from rbjax.parallel import distributed
from rbjax.train import loop
from tests.helpers import stable_diffusion_folder, tiny_run, train_process


def losses(workdir):
    return dict(json.loads((workdir / "loss.json").read_text()))


@pytest.fixture
def alone(avatars_dir, monkeypatch):
    """alone(workdir) trains in this process, on one device; returns {step: loss}."""
    monkeypatch.setattr(loop, "Evaluator", tiny_run.NoEvaluation)

    def train(workdir):
        config = tiny_run.config(avatars_dir)
        config.log_every = 1
        loop.train(config, workdir)
        return losses(workdir)

    return train


def test_two_processes_equal_one_which_can_take_over(alone, avatars_dir, tmp_path):
    """The mesh splits the parameters over both; the checkpoint of step 3 is resumed by one."""
    one = alone(tmp_path / "one")
    printed = train_process.train(
        tmp_path / "two", avatars_dir, processes=2, devices=1, log_every=1, mesh__fsdp=2
    )
    two = losses(tmp_path / "two")
    assert list(two) == [1, 2, 3, 4, 5, 6] and len(set(two.values())) == 6
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-5)
    assert "Training starts" in printed[0] and "Training starts" not in printed[1]
    shutil.rmtree(tmp_path / "two/checkpoints/6")
    np.testing.assert_allclose(
        list(alone(tmp_path / "two").values()), list(two.values()), rtol=1e-5
    )


def test_two_processes_store_the_latents_that_they_train_from(avatars_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(train_process, "LIMIT", 900)  # they waited for each other for ever
    data_dir = shutil.copytree(avatars_dir, tmp_path / "data")
    folder = stable_diffusion_folder.write(tmp_path / "sd")
    changes = {"pretrained": folder, "data_dir": data_dir, "data.size": 12, "eval.characters": 0}
    changes |= {"total_steps": 1, "model.retrieval.heads": 2}
    arguments = ["rbjax.main", "--config=configs/composition.py:smoke", "--num_processes=2"]
    arguments += [f"--config.{name}={value}" for name, value in changes.items()]
    arguments += [f"--coordinator=localhost:{train_process.free_port()}"]
    arguments += [f"--workdir={tmp_path}/run"]
    found = train_process.run([[*arguments, f"--process_id={i}"] for i in range(2)], devices=1)
    assert not any(p.returncode for p in found), "\n".join(p.stdout for p in found)
    assert "Stored moments: read from" in found[0].stdout
    assert list(losses(tmp_path / "run")) == [1]


@pytest.mark.slow
def test_four_processes_with_layers_split_over_hosts_evaluate(alone, avatars_dir, tmp_path):
    """Then two go on from their checkpoint of step 3; process 0 alone writes."""
    one, settings = alone(tmp_path / "one"), {"log_every": 1, "evaluate": True}
    workdir = tmp_path / "four"
    train_process.train(workdir, avatars_dir, processes=4, devices=1, mesh__tensor=2, **settings)
    np.testing.assert_allclose(list(losses(workdir).values()), list(one.values()), rtol=1e-5)
    assert json.loads((workdir / "results.json").read_text())["step"] == 6
    assert (workdir / "report/index.html").exists()
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == ["0000003.png", "0000006.png"]
    assert len(list(workdir.glob("events.out.tfevents.*"))) == 1
    shutil.rmtree(workdir / "checkpoints/6")
    (workdir / "results.json").unlink()
    printed = train_process.train(workdir, avatars_dir, processes=2, devices=2, **settings)
    assert "Resuming at step 3." in printed[0]
    np.testing.assert_allclose(list(losses(workdir).values()), list(one.values()), rtol=1e-5)
    assert json.loads((workdir / "results.json").read_text())["step"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_a_process_may_come_late(avatars_dir, tmp_path, processes):
    """XLA gives a process 30 s for the first exchange of a group of CPU devices."""
    devices = 4 // processes
    settings = {"log_every": 1, "mesh__fsdp": 2, "mesh__tensor": 2, "total_steps": 3, "late": 40}
    train_process.train(tmp_path, avatars_dir, processes=processes, devices=devices, **settings)
    assert list(losses(tmp_path)) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_other(avatars_dir, tmp_path, killed):
    """It is noticed when the next sum over devices fails, at the latest by a missing heartbeat."""
    changes = {"total_steps": 100_000, "checkpoint_every": 100_000, "log_every": 1}
    commands = train_process.training(tmp_path, avatars_dir, processes=2, **changes)
    processes = train_process.start(commands, devices=2)
    try:
        while not (tmp_path / "loss.json").exists():
            assert all(process.poll() is None for process in processes)
            time.sleep(0.1)
        processes[killed].kill()
        text, _ = processes[1 - killed].communicate(timeout=300)
    finally:
        for process in processes:
            process.kill()
    assert processes[1 - killed].returncode not in (0, -signal.SIGKILL), text


def test_what_fails_in_process_0_ends_all_with_one_line(avatars_dir, tmp_path):
    arguments = ["rbjax.main", "--config=configs/composition.py:smoke", "--config.batch_size=3"]
    arguments += [f"--workdir={tmp_path}", f"--config.data_dir={avatars_dir}", "--num_processes=2"]
    arguments += [f"--coordinator=localhost:{train_process.free_port()}"]
    found = train_process.run([[*arguments, f"--process_id={i}"] for i in range(2)], devices=2)
    said = ("Error: config.batch_size=3", "Error: process 0 failed:")
    for process, words in zip(found, said, strict=True):
        assert process.returncode == 1
        assert words in process.stdout and "Traceback" not in process.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ("localhost:1", None, None),
            "--coordinator, --num_processes and --process_id go together",
        ),
        (("localhost:1", 2, 2), "--process_id=2 with --num_processes=2: .* 0 to 1"),
    ],
)
def test_incomplete_or_wrong_numbers_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        distributed.initialize(*arguments)


@pytest.mark.parametrize(
    "tasks, chips, expected",
    [
        ("1", [], False),
        ("2", [], True),
        (None, ["accel0"], True),
        (None, ["vfio/vfio", "vfio/0"], True),
        (None, ["vfio/vfio", "accel/accel0"], False),  # of hosts without TPU
        (None, [], False),
    ],
)
def test_slurm_and_tpu_are_found(monkeypatch, tmp_path, tasks, chips, expected):
    started = []
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda **_: started.append(True))
    monkeypatch.setattr(distributed, "DEVICES", tmp_path)
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    if tasks:
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
    for chip in chips:
        (tmp_path / chip).parent.mkdir(exist_ok=True)
        (tmp_path / chip).touch()
    distributed.initialize(None, None, None)
    assert bool(started) == expected


@pytest.mark.parametrize(
    "tasks_of_hosts, gpus, expected",
    [
        ("1(x2)", "4", [0, 1, 2, 3]),
        ("1", "2", [0, 1]),
        ("1(x2)", None, None),
        ("4(x2)", "4", None),  # JAX gives each one
        ("2,1", "4", None),
    ],
)
def test_an_only_process_of_a_host_uses_all_its_gpus(monkeypatch, tasks_of_hosts, gpus, expected):
    started = []
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda **k: started.append(k))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks_of_hosts)
    monkeypatch.delenv("SLURM_GPUS_ON_NODE", raising=False)
    if gpus:
        monkeypatch.setenv("SLURM_GPUS_ON_NODE", gpus)
    distributed.initialize(None, None, None)
    assert started == [{"local_device_ids": expected}]
