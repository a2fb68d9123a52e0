"""What all commands share, without the commands."""

import runpy
import sys
from pathlib import Path

import pytest
from absl import flags, logging

from rbjax import command_line


@pytest.fixture
def config_folder(tmp_path, monkeypatch):
    """~/configs with two files, of which one imports the other; `~` is `tmp_path`."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "base_for_test.py").write_text("VALUE = 3\n")
    (folder / "experiment.py").write_text("from configs import base_for_test\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--config=~/configs/experiment.py:a"], ["--config={}/experiment.py:a"]),
        (["--config", "~/configs/experiment.py"], ["--config", "{}/experiment.py"]),
        (["-config={}/experiment.py", "--x=1"], ["-config={}/experiment.py", "--x=1"]),
        (["--config.data_dir=~/a", "--config"], ["--config.data_dir=~/a", "--config"]),
    ],
)
def test_the_home_directory_may_be_abbreviated(config_folder, words, expected):
    words, expected = ([word.format(config_folder) for word in each] for each in (words, expected))
    assert command_line._locate_config(words) == expected


def test_the_folder_above_a_configuration_is_on_the_import_path(config_folder):
    command_line._locate_config([f"--config={config_folder}/experiment.py"])
    assert sys.path[0] == str(config_folder.parent)


@pytest.mark.parametrize("name", ["own_data.py", "configs/own_data.py:folders"])
def test_an_installed_configuration_is_found_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (argument,) = command_line._locate_config([f"--config={name}"])
    file, colon, variant = argument.removeprefix("--config=").partition(":")
    assert Path(file) == command_line.CONFIGS / "own_data.py" and Path(file).is_file()
    assert colon + variant == name.removeprefix("configs/").removeprefix("own_data.py")


def test_a_file_that_exists_goes_before_an_installed_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own_data.py").touch()
    assert command_line._locate_config(["--config=own_data.py"]) == ["--config=own_data.py"]


def test_a_configuration_anywhere_imports_the_installed_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from configs import composition\nVARIANT = composition.smoke()\n")
    paths = [path for path in sys.path if not (Path(path) / "configs").exists()]
    monkeypatch.setattr(sys, "path", paths)
    monkeypatch.delitem(sys.modules, "configs.composition", raising=False)
    command_line._locate_config(["--config=mine.py"])
    assert runpy.run_path("mine.py")["VARIANT"].total_steps == 6


def test_a_configuration_that_is_nowhere_names_the_installed_ones():
    with pytest.raises(FileNotFoundError, match="x/own_data.py: there is no .* own_data.py, "):
        command_line._locate_config(["--config=x/own_data.py"])


@pytest.mark.parametrize("words", [["--config=gs://a/b.py:c"], ["--config", "s3://a/b.py"]])
def test_a_url_ends_the_program_with_a_sentence(words, monkeypatch):
    monkeypatch.setattr(flags, "FLAGS", None)
    with pytest.raises(SystemExit, match="Error: --config=.*://a/b.py.* is a URL; only files"):
        command_line.parse_flags(words)


def test_paths_of_options(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = command_line.ArgumentParser()
    parser.add_argument("--out", type=command_line.path_argument)
    assert parser.parse_args(["--out=~/a"]).out == tmp_path / "a"
    with pytest.raises(SystemExit):
        parser.parse_args(["--out=gs://a/b"])
    error = capsys.readouterr().err
    assert error.startswith("Error: argument --out: gs://a/b is a URL") and error.count("\n") == 1


@pytest.mark.parametrize("text", ["gs:/a/b", "s3:/a", "file:/a", "http:/a"])
def test_a_url_that_lost_a_slash_is_one(text):
    """As `pathlib` leaves it; otherwise a folder "gs:" would be made here."""
    with pytest.raises(ValueError, match=f"^--out={text} is a URL"):
        command_line.local_path(text, "--out")


@pytest.mark.parametrize(
    "text", ["~nobody-has-this-name/a", "a/gs:/b", "a:b/c", "lr=[1e-3]", "\u00fc "]
)
def test_other_paths_are_taken_as_they_are(text):
    assert str(command_line.local_path(text)) == text


@pytest.mark.parametrize("error", [ValueError("wrong"), FileNotFoundError("wrong")])
def test_errors_of_the_user_are_one_line(error, monkeypatch):
    with pytest.raises(SystemExit, match="Error: wrong .--verbosity=1 shows"):
        with command_line.one_line_errors(""):
            raise error
    monkeypatch.setattr(logging, "get_verbosity", lambda: logging.DEBUG)
    with pytest.raises(type(error)), command_line.one_line_errors(""):
        raise error


def test_defects_keep_their_traceback():
    with pytest.raises(KeyError), command_line.one_line_errors(""):
        raise KeyError
