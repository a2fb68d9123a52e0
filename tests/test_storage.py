"""Folders of this machine and of a bucket: what is refused, and what is written at once."""

import importlib.util
import pathlib

import jax
import pytest
from etils import epath

from rbjax import storage
from rbjax.experiment import workdir
from tests.helpers import bucket, tiny_run


@pytest.fixture(scope="module")
def url():
    with bucket.opened("small") as found:
        yield found


@pytest.mark.parametrize(
    "text",
    ["gs://", "gs://b/c", *(f"gs://abc{x}" for x in ("", "/[1]", "/a*", "/../c", "//c", "/a#1"))],
)
def test_names_that_a_library_reads_otherwise_are_refused(text):
    with pytest.raises(ValueError, match="--workdir=gs://.*: give gs://BUCKET/FOLDER"):
        storage.stored_path(text, "--workdir")


@pytest.mark.parametrize("text", ["s3://b/c", "hf://b/c", "gs:/b/c", "https://a.org/b"])
def test_other_urls_are_refused(text):
    with pytest.raises(ValueError, match=f"--workdir={text} is a URL; only files"):
        storage.stored_path(text, "--workdir")


def test_a_folder_that_etils_takes_for_a_bucket_is_refused():
    with pytest.raises(ValueError, match="--workdir=/gs/run: etils takes"):
        storage.stored_path("/gs/run", "--workdir")


def test_several_processes_do_not_start_in_a_bucket(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="--workdir=gs://abc/run: 2 processes cannot write"):
        workdir.check_workdir(tiny_run.config(""), epath.Path("gs://abc/run"))


def test_without_gcsfs_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"--workdir=gs://abc/d: .*pip install 'rbjax\[gcs"
    ):
        storage.stored_path("gs://abc/d", "--workdir")


def test_local_paths_stay_those_of_this_machine():
    path = storage.stored_path("~/a [1]", "--workdir")
    assert path == pathlib.Path.home() / "a [1]" and not storage.is_remote(path)


def test_files_are_found_written_and_removed(url, tmp_path):
    for folder in (epath.Path(url) / "files", tmp_path / "files"):
        for name in ("b.txt", "a/c.txt"):
            storage.make_folder((folder / name).parent)
            storage.write_text(folder / name, name)
            storage.write_text(folder / name, name.upper())
        found = {p.relative_to(folder).as_posix(): p.read_text() for p in storage.files(folder)}
        assert found == {"a/c.txt": "A/C.TXT", "b.txt": "B.TXT"}
        storage.remove_folder(folder / "a")
        storage.remove_folder(folder / "a")
        assert [p.name for p in storage.files(folder)] == ["b.txt"]


def test_a_bucket_that_is_not_there_is_refused_before_any_work(url):
    config = tiny_run.config("").copy_and_resolve_references()
    with pytest.raises(PermissionError, match="cannot write to --workdir=gs://nowhere/run "):
        workdir.check_workdir(config, epath.Path("gs://nowhere/run"))


def test_a_folder_in_a_bucket_is_not_locked_and_it_is_said(url, caplog):
    with workdir.lock(epath.Path(url) / "run"):
        assert "cannot be locked: let no second run use it" in caplog.text


def test_what_is_written_here_is_put_there_when_it_is_complete(url):
    folder = epath.Path(url) / "output"
    with pytest.raises(RuntimeError), storage.local_output(folder) as partial:
        partial.mkdir()
        (partial / "a.txt").write_text("a")
        raise RuntimeError
    assert not folder.exists()
    with storage.local_output(folder) as partial:
        (partial / "b").mkdir(parents=True)
        (partial / "b/a.txt").write_text("a")
    assert [path.relative_to(folder).as_posix() for path in storage.files(folder)] == ["b/a.txt"]
    with pytest.raises(FileExistsError, match="gs://small/output is not empty"):
        with storage.local_output(folder):
            pass
