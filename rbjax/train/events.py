"""What follows an update: a checkpoint, samples, an evaluation, where they are due or asked for.

A checkpoint is saved before the samples and the evaluation of its step. It notes which of them are
finished, so that a run that was killed in between makes the others when it resumes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from absl import logging
from clu.metric_writers import MetricWriter
from clu.periodic_actions import PeriodicCallback, ReportProgress
from ml_collections import ConfigDict

from rbjax import storage
from rbjax.evaluation.evaluator import Evaluator
from rbjax.experiment import workdir as workdir_lib
from rbjax.interop import json_files
from rbjax.parallel import distributed
from rbjax.storage import StoredPath
from rbjax.train import checkpoints
from rbjax.train.state import TrainState

Event = Callable[[int, TrainState], None]  # of (step, state after that step's update)
NOTES = "events.json"  # in a checkpoint: {event of its step: {"begun": times, "finished": true}}
MOST = 5  # times that an event is begun: one that ends the process each time is left out


def due(
    config: ConfigDict,
    progress: ReportProgress,
    writer: MetricWriter,
    *,
    workdir: StoredPath,
    checkpoint: Event,
    evaluator: Evaluator | None,
) -> list[PeriodicCallback]:
    """Returns what follows an update, in this order; `progress` reports the time that each takes.

    The last step is saved and sampled, whatever its number; it is evaluated after the loop.
    Training goes on where samples or an evaluation fail.
    """

    def timed(name: str, event: Event) -> Callable[..., None]:
        def call(step: int, t: float, state: TrainState) -> None:
            with progress.timed(name):
                event(step, state)

        return call

    every, last = config.eval_every, config.total_steps
    save = PeriodicCallback(
        every_steps=config.checkpoint_every,
        on_steps=[last],
        callback_fn=timed("checkpoint", checkpoint),
    )
    if evaluator is None:
        return [save]

    def sample(step: int, state: TrainState) -> None:
        evaluator.sample(step, state.averaged, writer)
        writer.flush()  # what it wrote lasts before it counts as finished

    def evaluate(step: int, state: TrainState) -> None:
        evaluator.periodic(step, state.averaged, writer)
        writer.flush()

    def noted(name: str, event: Event) -> Event:
        return _dispensable(name, _noted(name, event, workdir / checkpoints.FOLDER))

    return [
        save,
        PeriodicCallback(
            every_steps=config.sample_every,
            on_steps=[last],
            callback_fn=timed("sample", noted("the sample grid", sample)),
        ),
        PeriodicCallback(
            on_steps=range(every, last, every),
            callback_fn=timed("evaluate", noted("the evaluation", evaluate)),
        ),
    ]


def make(actions: Sequence[PeriodicCallback], step: int, state: TrainState) -> None:
    """Makes what is due after a step, but for what its checkpoint notes as finished."""
    for action in actions:
        action(step, state=state)


def _noted(name: str, event: Event, folder: StoredPath) -> Event:
    """Returns the event, which is not called where the checkpoint of the step has it finished."""

    def call(step: int, state: TrainState) -> None:
        checkpoint = folder / str(step)
        if not distributed.from_primary(lambda: "begun" if _begin(name, checkpoint) else ""):
            return
        event(step, state)
        if checkpoint.is_dir() and distributed.is_primary():
            _note(checkpoint, name, finished=True)

    return call


def _begin(name: str, checkpoint: StoredPath) -> bool:
    """Notes in a checkpoint, if it exists, that an event begins; returns whether it is to."""
    if not checkpoint.is_dir():
        return True
    note = _read_notes(checkpoint).get(name, {})
    begun = note.get("begun", 0)
    if note.get("finished"):
        return False
    if begun >= MOST:
        logging.warning(
            "step %s: %s was begun %d times and never finished: it is left out",
            *(checkpoint.name, name, begun),
        )
        return False
    if begun:
        print(f"Step {checkpoint.name}: {name} was not finished; it is made now.", flush=True)
    _note(checkpoint, name, begun=begun + 1)
    return True


def _read_notes(checkpoint: StoredPath) -> dict[str, Any]:
    path = checkpoint / NOTES
    try:
        return json_files.read(path) if path.exists() else {}
    except ValueError as error:
        logging.warning("samples and scores of its step are made again: %s", error)
        return {}


def _note(checkpoint: StoredPath, name: str, **values: int) -> None:
    notes = _read_notes(checkpoint)
    notes[name] = notes.get(name, {}) | values
    workdir_lib.write_text(checkpoint / NOTES, json.dumps(notes))


def asked_for(save: Event, evaluator: Evaluator | None, writer: MetricWriter) -> dict[str, Event]:
    """Returns what answers each of `workdir.REQUESTS`.

    A run of several processes answers none: they would read a request after different steps.
    """
    if jax.process_count() > 1:
        return {}

    def save_now(step: int, state: TrainState) -> None:
        save(step, state)
        print(f"Step {step}: save_now is done.", flush=True)

    def sample_now(step: int, state: TrainState) -> None:
        if not evaluator:
            print(f"Step {step}: no samples, as config.eval.characters is 0.", flush=True)
            return
        evaluator.sample(step, state.averaged, writer)
        print(f"Step {step}: sample_now is done.", flush=True)

    return {"save_now": save_now, "sample_now": _dispensable("the sample grid", sample_now)}


def answer(
    requests: Mapping[str, Event], workdir: StoredPath, *, step: int, state: TrainState
) -> None:
    """Does what was asked for since the last step; training is the same with it and without.

    In a bucket nothing is looked for: it would take longer than a step.
    """
    if storage.is_remote(workdir):
        return

    def take() -> str:
        return " ".join(name for name in requests if workdir_lib.take_request(workdir, name))

    for name in distributed.from_primary(take).split():
        requests[name](step, state)


def _dispensable(name: str, event: Event) -> Event:
    """Returns the event; where it fails it says so, with the place, and raises nothing."""

    def call(step: int, state: TrainState) -> None:
        try:
            event(step, state)
        except Exception:
            logging.exception("step %d: %s failed; the training goes on", step, name)

    return call
