"""Runs that are killed and resumed end with the same bytes."""

import numpy as np
import pytest

from scripts import chaos


def test_what_differs_is_named():
    whole = {"a": np.float32([1, 2]), "b": b"x", "c": np.float32([0.0]), "d": np.int32(1)}
    other = {"a": np.float32([1, 2]), "b": b"y", "c": np.float32([-0.0]), "e": b""}
    assert chaos.differences(whole, whole) == []
    assert chaos.differences(whole, other) == ["b", "c", "d", "e"]


@pytest.mark.slow
def test_killed_runs_end_as_one_that_was_not(avatars_dir, tmp_path, capsys):
    options = [f"--config.data_dir={avatars_dir}", "--config.total_steps=6"]
    assert chaos.main(["--kills=3", f"--out={tmp_path}", *options]) == 0
    assert "3 kills" in capsys.readouterr().out
