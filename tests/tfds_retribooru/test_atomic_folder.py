"""A folder has its name when it is complete, and only then."""

import pytest

from tfds_retribooru import atomic_folder


def _write(folder, text):
    with atomic_folder.replace(folder) as partial:
        assert not list(partial.iterdir())
        (partial / "a.txt").write_text(text)


def _content(folder):
    return {
        str(path.relative_to(folder)): path.is_dir() or path.read_text()
        for path in folder.rglob("*")
    }


def test_a_folder_is_made_and_replaced(tmp_path):
    _write(tmp_path / "new" / "out", "first")
    (tmp_path / "new" / "out" / "b.txt").touch()
    _write(tmp_path / "new" / "out", "second")
    assert _content(tmp_path / "new") == {"out": True, "out/a.txt": "second"}


def test_an_error_leaves_the_old_folder(tmp_path):
    _write(tmp_path / "out", "first")
    with pytest.raises(KeyboardInterrupt), atomic_folder.replace(tmp_path / "out") as partial:
        (partial / "a.txt").write_text("second")
        raise KeyboardInterrupt
    assert _content(tmp_path) == {"out": True, "out/a.txt": "first"}


@pytest.mark.parametrize("killed", [".out.partial", ".out.old"])
def test_what_a_killed_process_left_is_removed(tmp_path, killed):
    (tmp_path / killed).mkdir()
    (tmp_path / killed / "half.txt").touch()
    (tmp_path / "out").mkdir()
    _write(tmp_path / "out", "first")
    assert _content(tmp_path) == {"out": True, "out/a.txt": "first"}


def test_a_link_to_a_folder_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    _write(tmp_path / "out", "first")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "a.txt").read_text() == "first"
