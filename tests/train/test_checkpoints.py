"""A resumed run equals an uninterrupted one."""

import jax
import numpy as np
import pytest

from rbjax.train import checkpoints, loop
from tests.helpers import tiny_run


class Interrupted(Exception):
    pass


@pytest.fixture
def run(avatars_dir, monkeypatch):
    """run(workdir, stop_after) trains; returns {step: (state, state of the data)} as saved."""
    monkeypatch.setattr(loop, "Evaluator", tiny_run.NoEvaluation)
    original = checkpoints.save

    def train(workdir, stop_after=None):
        saved = {}

        def save(manager, step, state, data):
            original(manager, step, state=state, data=data)
            saved[step] = (jax.tree.map(np.asarray, state), data.get_state())
            if step == stop_after:
                manager.close()
                raise Interrupted

        monkeypatch.setattr(checkpoints, "save", save)
        loop.train(tiny_run.config(avatars_dir), workdir)
        return saved

    return train


def test_resumed_run_equals_an_uninterrupted_one(run, tmp_path, capsys):
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", stop_after=3)
    resumed = run(tmp_path / "parts")
    assert set(whole) == {3, 6} and set(resumed) == {6}
    assert "Resuming at step 3." in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, resumed[6][0], whole[6][0])
    assert resumed[6][1] == whole[6][1]
    changed = jax.tree.map(
        lambda a, b: bool((a != b).any()), whole[3][0].trained, whole[6][0].trained
    )
    assert any(jax.tree.leaves(changed))


def test_without_a_checkpoint_the_state_is_returned(tmp_path):
    state, manager = object(), checkpoints.manager(tmp_path)
    assert checkpoints.restore(manager, state=state, shardings=None, data=None) is state
