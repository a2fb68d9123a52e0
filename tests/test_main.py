"""The command line: what a user sees who mistypes something, and a whole small run."""

import json
import pathlib
import subprocess
import sys
import types

import pytest

from rbjax import main
from rbjax.evaluation import judging
from rbjax.train import loop
from tests.helpers import tiny_run

ROOT = pathlib.Path(__file__).parents[1]
FILE = "configs/composition.py"


def command(*arguments: str) -> subprocess.CompletedProcess:
    """Runs the program; only for what is said before JAX is imported."""
    return subprocess.run(
        [sys.executable, "-m", "rbjax.main", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config", f"{FILE}:smoke", "--config.data.sizee=3"], ["sizee", 'Did you mean "size"']),
        (["--config", f"{FILE}:nope"], ["unknown variant 'nope'", "avatars_long", "smoke"]),
        ([], ["--config must have a value"]),
        (["--config", "configs/nope.py:sd15"], ["--config=configs/nope.py: there is no such file"]),
        (["--config", "configs/faces.py:avatars"], ["unknown variant 'avatars' of faces.py"]),
        (["--config=s3://a/b.py"], ["--config=s3://a/b.py is a URL; only files"]),
    ],
)
def test_wrong_flags_end_with_one_line(arguments, words):
    result = command(*arguments)
    assert result.returncode != 0
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words)


def test_a_configuration_outside_the_repository_imports_its_siblings(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/base.py").write_text("MESSAGE = 'read from base.py'\n")
    text = (
        "from configs import base\ndef get_config(variant):\n    raise ValueError(base.MESSAGE)\n"
    )
    (tmp_path / "configs/mine.py").write_text(text)
    result = command("--config", f"{tmp_path}/configs/mine.py:a")
    assert result.stderr == "Error: ValueError: read from base.py\n"


def test_help_explains():
    result = command("--help")
    text = result.stdout + result.stderr
    assert all(word in text for word in ("--config", "--workdir", "resumes the run", "python -m"))
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "path, expected",
    [(f"{FILE}:smoke", "runs/composition_smoke"), ("a/b.py", "runs/b"), ("b.py:", "runs/b")],
)
def test_default_workdir(path, expected):
    assert main.default_workdir(path) == pathlib.Path(expected)


@pytest.fixture
def start(monkeypatch, tmp_path):
    """start(config) is the program with this configuration."""
    monkeypatch.setattr(main.config_flags, "get_config_filename", lambda flag: FILE)
    monkeypatch.setattr(main, "WORKDIR", types.SimpleNamespace(value=str(tmp_path / "run")))
    alone = dict.fromkeys(("coordinator", "num_processes", "process_id"))
    monkeypatch.setattr(main, "PROCESSES", lambda: alone)

    def run(config) -> pathlib.Path:
        monkeypatch.setattr(main, "CONFIG", types.SimpleNamespace(value=config))
        main.main(["rbjax.main"])
        return tmp_path / "run"

    return run


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"data_dir": "/nowhere"}, "config.data_dir='/nowhere'"),
        ({"data_dir": "gs://bucket"}, "config.data_dir=gs://bucket is a URL"),
        ({"mesh.data": 8, "batch_size": 12}, "config.batch_size=12"),
        ({"data.faces": 0, "data.clothes": 0}, "config.data.faces=0"),
        ({"mesh.tensor": 16}, "tensor=16"),
    ],
)
def test_settings_that_cannot_work_end_with_one_line(start, changes, field):
    config = tiny_run.config("")
    config.update_from_flattened_dict(changes)
    with pytest.raises(SystemExit) as exit_:
        start(config)
    message = str(exit_.value.code)
    assert message.startswith("Error: ") and field in message and "\n" not in message


@pytest.mark.parametrize(
    "text, error, said",
    [
        (
            "RESOURCE_EXHAUSTED: 9 bytes",
            SystemExit,
            "not enough memory .*--config.train.accumulate",
        ),
        ("INTERNAL: a defect", RuntimeError, "a defect"),
    ],
)
def test_too_little_memory_says_what_to_reduce(start, monkeypatch, text, error, said):
    def fails(*_):
        raise RuntimeError(text)  # JAX's own error is one

    monkeypatch.setattr(loop, "train", fails)
    with pytest.raises(error, match=said):
        start(tiny_run.config(""))


def test_corrected_settings_may_use_the_same_directory(start, monkeypatch, tmp_path):
    config = tiny_run.config("")
    config.mesh.data, config.batch_size = 8, 12
    with pytest.raises(SystemExit):
        start(config)
    config.batch_size = 16
    config.data_dir = "/nowhere"
    with pytest.raises(SystemExit, match="data_dir"):
        start(config)


@pytest.mark.slow
def test_a_whole_run_and_a_second_start(start, avatars_dir, monkeypatch, capsys):
    monkeypatch.setattr(judging.VQA, "load", lambda *folder: tiny_run.VQA())
    workdir = start(tiny_run.config(avatars_dir))
    assert json.loads((workdir / "results.json").read_text())["step"] == 6
    assert (workdir / "report" / "index.html").exists()
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == ["0000003.png", "0000006.png"]
    assert list(workdir.glob("events.out.tfevents.*"))
    capsys.readouterr()
    start(tiny_run.config(avatars_dir))
    text = capsys.readouterr().out
    assert "This run is finished: 6 steps" in text and "--config.total_steps=12" in text
