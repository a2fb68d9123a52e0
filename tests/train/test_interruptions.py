"""A run keeps what it has: samples, evaluations, updates that fail, and SIGTERM."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from rbjax.evaluation import evaluator
from rbjax.train import bad_updates, checkpoint_files, checkpoints, loop, replay, termination
from scripts import chaos
from tests.helpers import tiny_run


@pytest.fixture
def saved(monkeypatch):
    """{step: (state, position of the data)} of all that is saved in a test."""
    found, original = {}, checkpoints.save

    def save(workdir, step, state, data, metrics):
        original(workdir, step, state=state, data=data, metrics=metrics)
        found[step] = (jax.tree.map(np.asarray, (state, metrics)), data.get_state())

    monkeypatch.setattr(checkpoints, "save", save)
    return found


@pytest.fixture
def train(avatars_dir, monkeypatch, tmp_path):
    """train(evaluation, name, **changes) trains in a folder of that name; returns the folder."""

    def run(evaluation=tiny_run.NoEvaluation, name="run", **changes):
        if evaluation:
            monkeypatch.setattr(loop, "Evaluator", evaluation)
        config = tiny_run.config(avatars_dir)
        config.update_from_flattened_dict(changes)
        loop.train(config, tmp_path / name)
        return tmp_path / name

    return run


class Failing(tiny_run.NoEvaluation):
    """Fails at everything."""

    def sample(self, *arguments):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    def periodic(self, *arguments):
        raise KeyError("periodic")

    def final(self, *arguments):
        raise RuntimeError("final")


def test_what_fails_beside_the_training_ends_it_nowhere(train, tmp_path, caplog, monkeypatch):
    """The last evaluation ends it; the same command then only evaluates."""
    evaluated = []

    class Evaluation(tiny_run.NoEvaluation):
        def final(self, step, params, history):
            evaluated.append((step, len(history)))

    with pytest.raises(RuntimeError, match="final"):
        train(Failing)
    for what in ("step 3: the sample grid failed", "step 3: the evaluation failed", "step 6: the"):
        assert what in caplog.text
    assert "RESOURCE_EXHAUSTED" in caplog.text and f'{__file__}", line' in caplog.text
    assert "is complete and saved (step 6)" in caplog.text
    assert checkpoint_files.steps(tmp_path / "run/checkpoints") == [6, 3]
    monkeypatch.setattr(loop.loader, "place", None)  # each update needs it
    train(Evaluation)
    assert evaluated == [(6, 3)]


class Writing(tiny_run.NoEvaluation):
    """Writes what depends on the parameters; keeps what SIGKILL leaves when an event has begun."""

    def _begin(self, event, step, params):
        if self.workdir.name == "whole":
            copy = self.workdir.with_name(f"{event}-{step}")
            shutil.copytree(self.workdir, copy, ignore=shutil.ignore_patterns(".lock"))
        return [float(leaf.sum()) for leaf in jax.tree.leaves(params)]

    def sample(self, step, params, writer):
        values = self._begin("sample", step, params)
        (self.workdir / "samples").mkdir(exist_ok=True)
        (self.workdir / f"samples/{step}.png").write_text(str(values))

    def periodic(self, step, params, writer):
        values = self._begin("periodic", step, params)
        writer.write_scalars(step, {f"eval/{i}": value for i, value in enumerate(values)})
        (self.workdir / "periodic_results.json").write_text(str(values))

    def final(self, step, params, history):
        values = self._begin("final", step, params)
        (self.workdir / "results.json").write_text(json.dumps({"step": step, "of": values}))


def test_killed_in_an_event_a_run_ends_with_the_same_files(train, tmp_path, capsys, monkeypatch):
    """Also where its frozen parameters are lost: they are made again from the seed."""
    parts = {"trained": ("retrinet/",), "frozen": ("(autoencoder|text_encoder)/",)}
    settings = {f"train.{name}": patterns for name, patterns in parts.items()}
    whole = chaos.contents(train(Writing, "whole", **settings))
    assert {"eval/0 3", "loss 6", "samples/6.png", "periodic_results.json"} <= set(whole)
    killed = sorted(path.name for path in tmp_path.glob("*-[0-9]"))
    assert killed == ["final-6", "periodic-3", "sample-3", "sample-6"]
    before = chaos.arrays(tmp_path / "periodic-3/checkpoints/3/state", "state")
    changed = [name for name in before if (before[name] != whole[name]).any()]
    assert {name.split("/")[1] for name in changed} >= {"step", "trained", "ema", "opt_state"}

    shutil.rmtree(tmp_path / "periodic-3/checkpoints/frozen")
    train(Writing, "periodic-3", **settings)
    monkeypatch.setattr(loop.states, "create_state", None)  # no second state is made
    train(Writing, "sample-6", **settings)
    for name in ("periodic-3", "sample-6"):
        assert chaos.differences(whole, chaos.contents(tmp_path / name)) == []
    said = capsys.readouterr().out
    assert said.count("was not finished; it is made now") == 2
    assert "Resuming at step 3." in said and "Resuming at step 6." in said


@pytest.mark.slow
def test_samples_and_evaluations_change_nothing(train, saved, monkeypatch):
    monkeypatch.setattr(evaluator.VQA, "load", lambda *folder: tiny_run.VQA())
    settings = {"checkpoint_every": 9, "total_steps": 4, "eval.characters": 1, "eval.prompts": 1}
    train(None, "on", sample_every=1, eval_every=2, **settings)
    with_them = saved.pop(4)
    train(None, "off", sample_every=9, eval_every=9, **settings)
    jax.tree.map(np.testing.assert_array_equal, with_them[0], saved[4][0])
    assert with_them[1] == saved[4][1]


@pytest.mark.slow
def test_a_run_ends_after_bad_updates_in_a_row(train, avatars, tmp_path, saved, caplog):
    settings = {"log_every": 1, "checkpoint_every": 2, "train.warmup_steps": 1}
    settings |= {"train.learning_rate": 1e30, "train.max_bad_updates": 3}
    with pytest.raises(ValueError, match=r"^step 4: the last 3 updates were not applied") as error:
        train(**settings)  # the first update's rate is 0
    records = str(error.value).partition("has the records ")[2].partition(" of the")[0].split(", ")
    found = bad_updates.load(tmp_path / "run")
    assert found.step == 4 and found.records == records and len(set(records)) > 4
    ids = {record["id"].decode() for record in avatars.as_data_source(split="train")}
    assert ids.issuperset(records)
    assert caplog.text.count("1 updates since the last line were not applied") == 3
    assert checkpoint_files.steps(tmp_path / "run/checkpoints") == [2]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(saved[2][0][0]))

    _replays(tmp_path / "run", found)


def _replays(workdir, found):
    """The examples have the run's noise and parameters; those that are not finite are told."""
    replayed = replay.replay(workdir)
    assert (replayed.step, replayed.checkpoint, replayed.records) == (4, 2, found.records)
    assert not replayed.bad.any() and (replayed.grad_norms > 0).all()
    losses = dict(json.loads((workdir / "loss.json").read_text()))
    np.testing.assert_allclose(replayed.losses.mean(), losses[4], rtol=1e-5)
    width = checkpoints.read_config(workdir).model.text.hidden_size
    states = np.zeros((*found.batch.prompt.shape, width), np.float32)
    states[5] = np.nan
    broken = dataclasses.replace(found.batch, prompt=states)
    bad_updates.dump(dataclasses.replace(found, batch=broken), workdir)
    assert np.flatnonzero(replay.replay(workdir).bad).tolist() == [5]


def test_sigterm_saves_first_and_the_run_goes_on(train, saved, monkeypatch, capsys):
    class Killed(tiny_run.NoEvaluation):
        def periodic(self, step, *arguments):
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the evaluation went on")

    settings = {"checkpoint_every": 9, "eval_every": 2, "sample_every": 9}
    train(name="whole", **settings)
    whole = saved.pop(6)
    with pytest.raises(SystemExit) as end:
        train(Killed, **settings)
    assert end.value.code == 143 and set(saved) == {2}
    place, before = loop.loader.place, signal.getsignal(signal.SIGTERM)

    def killed(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return place(*arguments)

    monkeypatch.setattr(loop.loader, "place", killed)
    with pytest.raises(SystemExit):  # within an update, which is finished
        train(**settings)
    assert set(saved) == {2, 3} and signal.getsignal(signal.SIGTERM) is before
    output = capsys.readouterr()
    assert "Step 3 is saved." in output.out and output.err.count("Stopped by SIGTERM") == 2
    monkeypatch.setattr(loop.loader, "place", place)
    train(**settings)
    jax.tree.map(np.testing.assert_array_equal, saved[6][0], whole[0])
    assert saved[6][1] == whole[1]


def test_an_update_has_ended_when_it_returns():
    queued = jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda _, y: y @ x, x))
    x = jax.numpy.eye(300)
    queued(x).block_until_ready()  # compiled
    assert not queued(x).is_ready()
    assert loop.finishing(queued)(x).is_ready()


def test_only_the_first_sigterm_counts():
    with pytest.raises(termination.Terminated):
        with termination.handled() as stop:
            with stop.deferred():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)


def test_several_processes_end_after_the_same_step(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    asked = termination.multihost_utils
    monkeypatch.setattr(asked, "reached_preemption_sync_point", lambda step: step == 3)
    steps = []
    with pytest.raises(termination.Terminated), termination.handled() as stop:
        assert signal.getsignal(signal.SIGTERM) is before  # JAX takes it
        for step in range(1, 6):
            steps.append(step)
            stop.check(step)
    assert steps == [1, 2, 3]
