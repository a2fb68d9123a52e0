"""Builds that start at once, and what killed builds leave behind."""

import multiprocessing
import pathlib
import signal
import time

import pytest
import tensorflow_datasets as tfds

import tfds_retribooru  # noqa: F401  registers the builders
from tests.helpers import retribooru_folder
from tfds_retribooru.building import examples, locks


def write(root: pathlib.Path) -> str:
    for number in range(12):
        path = root / f"c{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(retribooru_folder.encoded(retribooru_folder.draw_image(number)))
    return str(root)


def build(path: str, data_dir: pathlib.Path) -> int:
    builder = tfds.builder("folder", path=path, data_dir=data_dir)
    builder.download_and_prepare()
    return sum(len(builder.as_data_source(split)) for split in builder.info.splits)


def build_slowly(path: str, data_dir: pathlib.Path, count) -> None:
    """Builds in another process; puts the number of records into `count`."""
    plan = examples.plan_splits

    def slow(*args):
        time.sleep(2)
        return plan(*args)

    examples.plan_splits = slow
    count.value = build(path, data_dir)


@pytest.fixture
def other(tmp_path):
    """(path, data_dir, process that builds slowly, its number of records); it has the lock."""
    context = multiprocessing.get_context("spawn")
    count = context.Value("i", -1)
    path, data_dir = write(tmp_path / "in"), tmp_path / "out"
    process = context.Process(target=build_slowly, args=(path, data_dir, count))
    process.start()
    versions = data_dir / "folder" / "384"
    for _ in range(1200):
        if versions.is_dir() and any("incomplete" in p.name for p in versions.iterdir()):
            break
        time.sleep(0.05)
    yield path, data_dir, process, count
    process.kill()


def test_of_two_builds_one_waits_and_uses_the_result(other, capsys, monkeypatch):
    path, data_dir, process, count = other
    monkeypatch.setattr(examples, "plan_splits", None)  # a second build would fail
    assert build(path, data_dir) == 12
    process.join(60)
    assert count.value == 12 and process.exitcode == 0
    assert "Another process builds" in capsys.readouterr().out
    assert [p.name for p in (data_dir / "folder" / "384").iterdir()] == ["1.2.0"]


def test_what_a_killed_build_left_goes_with_the_next(other):
    path, data_dir, process, _ = other
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    versions = data_dir / "folder" / "384"
    assert len(list(versions.iterdir())) == 2  # lock and records
    (versions / "incomplete.ABC123_1.2.0-mine").mkdir()  # no leftover
    assert build(path, data_dir) == 12
    left = {p.name for p in versions.iterdir()}
    assert left == {"1.2.0", "incomplete.ABC123_1.2.0-mine"}


def test_where_locks_are_unknown_a_warning_says_so(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError("no locks available")

    (tmp_path / "incomplete.ABC123_1.0.0").mkdir()  # may be of a build that runs
    for place, name, value in ((locks.fcntl, "flock", unknown), (locks, "fcntl", None)):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            with (
                pytest.warns(UserWarning, match="cannot be locked: start one build"),
                locks.build_lock(tmp_path / "1.0.0"),
            ):
                pass
    assert [p.name for p in tmp_path.iterdir()] == ["incomplete.ABC123_1.0.0"]


def test_what_is_built_needs_no_lock(tmp_path, monkeypatch):
    path = write(tmp_path / "in")
    assert build(path, tmp_path / "out") == 12
    monkeypatch.setattr(locks, "build_lock", None)
    assert build(path, tmp_path / "out") == 12


def test_a_builder_reads_what_was_built_after_it_was_made(tmp_path):
    path = write(tmp_path / "in")
    early = tfds.builder("folder", path=path, data_dir=tmp_path / "out")
    assert build(path, tmp_path / "out") == 12
    early.download_and_prepare()
    assert early.info.splits.total_num_examples == 12
