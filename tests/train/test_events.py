"""What follows an update: its order, what is asked for, and what a kill cut short."""

import pathlib
import types

import pytest
from clu.periodic_actions import ReportProgress
from ml_collections import ConfigDict

from rbjax.experiment import workdir as workdir_lib
from rbjax.train import events

EVENTS = ("checkpoint", "sample", "evaluate")
State = types.SimpleNamespace


class Killed(BaseException):
    """Stands for SIGKILL: no handler of exceptions takes it."""


class Evaluator:
    """Notes what it is asked for; `ends` has exceptions by (event, step)."""

    def __init__(self, found, ends=()):
        self.found, self.ends = found, dict(ends)

    def sample(self, step, params, writer, name="sample"):
        if (name, step) in self.ends:
            raise self.ends[name, step]
        self.found.append((f"{params} {name}", step))

    def periodic(self, step, params, writer):
        self.sample(step, params, writer, "evaluate")


def happens(
    workdir: pathlib.Path, start: int, ends=(), **settings: int
) -> tuple[list[tuple[str, int]], list[str]]:
    """What happens from step `start`, if any, to the last one; then the log's order."""
    found, order, config = [], [], ConfigDict(settings)
    progress = ReportProgress(num_train_steps=config.total_steps)

    def checkpoint(step, state):
        folder = workdir / "checkpoints" / str(step)
        if not folder.exists():
            folder.mkdir(parents=True)
            found.append((f"{state.averaged} checkpoint", step))

    due = events.due(
        config,
        progress,
        types.SimpleNamespace(flush=lambda: order.append("flush")),
        workdir=workdir,
        checkpoint=checkpoint,
        evaluator=Evaluator(found, ends),
    )
    try:
        for step in range(start or 1, config.total_steps + 1):
            events.make(due, step, State(averaged="state"))
    except Killed:
        found.append(("killed", step))
    return found, order


def test_every_event_has_its_steps_and_they_keep_their_order(tmp_path):
    checkpoint, sample, evaluate = (f"state {name}" for name in EVENTS)
    settings = {"sample_every": 3, "eval_every": 2, "checkpoint_every": 4, "total_steps": 6}
    expected = [
        (evaluate, 2),
        (sample, 3),
        (checkpoint, 4),  # first: what comes after may fail
        (evaluate, 4),
        (checkpoint, 6),
        (sample, 6),  # the last evaluation follows the loop
    ]
    assert happens(tmp_path, 0, **settings)[0] == expected


def test_a_grid_is_made_at_the_last_step_of_a_short_run(tmp_path):
    settings = {"sample_every": 100, "eval_every": 100, "checkpoint_every": 100, "total_steps": 2}
    assert happens(tmp_path, 0, **settings)[0] == [("state checkpoint", 2), ("state sample", 2)]


ALL = {f"{name}_every": 2 for name in ("sample", "eval", "checkpoint")}


def test_one_event_of_every_kind_may_share_a_step(tmp_path):
    found, _ = happens(tmp_path, 0, **ALL, total_steps=3)
    last = [("state checkpoint", 3), ("state sample", 3)]
    assert found == [(f"state {name}", 2) for name in EVENTS] + last


@pytest.mark.parametrize("number", [1, 2])
def test_what_was_cut_short_is_made_when_the_run_resumes(tmp_path, capsys, number):
    """What was finished is not made again."""
    whole, _ = happens(tmp_path / "whole", 0, **ALL, total_steps=4)
    cut = EVENTS[number]
    first, _ = happens(tmp_path / "run", 0, {(cut, 2): Killed()}, **ALL, total_steps=4)
    assert first == [*whole[:number], ("killed", 2)]
    resumed, order = happens(tmp_path / "run", 2, **ALL, total_steps=4)
    assert resumed == whole[number:]
    assert order == ["flush"] * (len(resumed) - 1)  # but for the checkpoint of step 4
    name = ("the sample grid", "the evaluation")[number - 1]
    assert capsys.readouterr().out == f"Step 2: {name} was not finished; it is made now.\n"
    assert happens(tmp_path / "run", 4, **ALL, total_steps=4)[0] == []


def test_what_failed_is_tried_again_when_the_run_resumes(tmp_path):
    fails = {("sample", 4): MemoryError()}
    first, _ = happens(tmp_path, 0, fails, **ALL, total_steps=4)
    assert ("state checkpoint", 4) in first and ("state sample", 4) not in first
    assert happens(tmp_path, 4, **ALL, total_steps=4)[0] == [("state sample", 4)]


def test_what_ends_the_process_each_time_is_left_out_in_the_end(tmp_path, caplog):
    ends, settings = {("sample", 2): Killed()}, ALL | {"total_steps": 3}
    happens(tmp_path, 0, ends, **settings)
    for _ in range(events.MOST - 1):
        assert happens(tmp_path, 2, ends, **settings)[0] == [("killed", 2)]
    assert not caplog.text
    found, _ = happens(tmp_path, 2, ends, **settings)
    last = [("state checkpoint", 3), ("state sample", 3)]
    assert found == [("state evaluate", 2), *last]
    assert "step 2: the sample grid was begun 5 times and never finished" in caplog.text


def test_where_the_notes_are_damaged_all_is_made_again(tmp_path, caplog):
    whole, _ = happens(tmp_path, 0, **ALL, total_steps=3)
    (tmp_path / "checkpoints/2" / events.NOTES).write_bytes(b"{")
    assert happens(tmp_path, 2, **ALL, total_steps=3)[0] == whole[1:3]
    assert f"made again: {tmp_path}/checkpoints/2/events.json is not JSON" in caplog.text


def test_what_is_asked_for_follows_the_step(tmp_path, capsys):
    found = []

    requests = events.asked_for(
        lambda step, state: found.append(("save", step)), Evaluator(found), None
    )
    assert tuple(sorted(requests)) == workdir_lib.REQUESTS
    state = State(averaged="averages")
    events.answer(requests, tmp_path, step=1, state=state)
    for name in workdir_lib.REQUESTS:
        (tmp_path / name).touch()
    for step in (2, 3):
        events.answer(requests, tmp_path, step=step, state=state)
    assert found == [("save", 2), ("averages sample", 2)]
    assert "Step 2: sample_now is done." in capsys.readouterr().out
