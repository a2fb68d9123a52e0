"""The order of events in the training loop."""

import types

from clu.periodic_actions import ReportProgress
from ml_collections import ConfigDict

from rbjax.experiment import workdir as workdir_lib
from rbjax.train import loop

EVENTS = ("checkpoint", "sample", "evaluate")


def events(start: int, **settings: int) -> list[tuple[str, int]]:
    """What happens from the step after `start` to the last one."""
    found, config = [], ConfigDict(settings)
    progress = ReportProgress(num_train_steps=config.total_steps)

    def event(name):
        return lambda step, params, *_: found.append((f"{params} {name}", step))

    def checkpoint(step, state):
        event("checkpoint")(step, state.averaged)

    evaluator = types.SimpleNamespace(sample=event("sample"), periodic=event("evaluate"))
    actions = loop._actions(config, progress, None, checkpoint=checkpoint, evaluator=evaluator)
    state = types.SimpleNamespace(averaged="state")
    for step in range(start + 1, config.total_steps + 1):
        for action in actions:
            action(step, state=state)
    return found


def test_every_event_has_its_steps_and_they_keep_their_order():
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
    assert events(0, **settings) == expected
    assert events(3, **settings) == expected[2:]


def test_a_grid_is_made_at_the_last_step_of_a_short_run():
    settings = {"sample_every": 100, "eval_every": 100, "checkpoint_every": 100, "total_steps": 2}
    assert events(0, **settings) == [("state checkpoint", 2), ("state sample", 2)]


def test_one_event_of_every_kind_may_share_a_step():
    settings = dict.fromkeys(("sample_every", "eval_every", "checkpoint_every"), 2)
    found = events(0, **settings, total_steps=3)
    last = [("state checkpoint", 3), ("state sample", 3)]
    assert found == [(f"state {name}", 2) for name in EVENTS] + last


def test_what_is_asked_for_follows_the_step(tmp_path, capsys):
    found = []

    class Evaluator:
        def sample(self, step, params, writer):
            found.append(("sample", step, params, writer))

    class State:
        averaged = "averages"

    requests = loop._requests(
        lambda step, state: found.append(("save", step, state)), Evaluator(), "writer"
    )
    assert tuple(sorted(requests)) == workdir_lib.REQUESTS
    state = State()
    loop._answer(requests, tmp_path, step=1, state=state)
    for name in workdir_lib.REQUESTS:
        (tmp_path / name).touch()
    for step in (2, 3):
        loop._answer(requests, tmp_path, step=step, state=state)
    assert found == [("save", 2, state), ("sample", 2, "averages", "writer")]
    assert "Step 2: sample_now is done." in capsys.readouterr().out
