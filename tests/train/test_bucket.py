"""A run in a bucket is the run on a disk: the same files, resumed, and mended where damaged."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from rbjax import storage
from rbjax.evaluation import saved_images
from rbjax.experiment import workdir as workdir_lib
from rbjax.models.batch import Batch
from rbjax.train import bad_updates, loop
from scripts import chaos
from tests.helpers import bucket, tiny_run
from tests.train.test_checkpoints import flip, restored_step, saved


@pytest.fixture(scope="module")
def url():
    with bucket.opened("runs") as found:
        yield found


def test_checkpoints_are_saved_and_restored(url):
    workdir = epath.Path(url) / "lr=1e-3, a b"
    folder = saved(workdir, (2, 4, 6))
    assert restored_step(workdir) == 6
    assert sorted(path.name for path in folder.iterdir()) == ["4", "6", "frozen"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(url, caplog):
    workdir = epath.Path(url) / "damaged"
    folder = saved(workdir)
    file = next(path for path in storage.files(folder / "4" / "state") if path.parent.name == "d")
    flip(file)
    assert restored_step(workdir) == 2
    assert str(file) in caplog.text
    assert (folder / "4.damaged-1" / "checksums.json").exists()
    saved(workdir, (4,))  # the same step again
    assert restored_step(workdir) == 4


def test_a_save_that_was_killed_is_no_checkpoint(url):
    workdir = epath.Path(url) / "killed"
    folder = saved(workdir)
    for file in ("checksums.json", "commit_success.txt"):  # Orbax writes it last
        (folder / "4" / file).unlink()
    assert restored_step(workdir) == 2
    saved(workdir, (4,))
    assert restored_step(workdir) == 4


@pytest.mark.parametrize("shown", [None, np.ones((3, 4), np.float32)], ids=["squares", "bars"])
def test_the_batch_that_ended_a_run_is_read(url, monkeypatch, shown):
    """Each of two processes wrote its rows, before them one of an earlier step."""
    workdir = epath.Path(url) / f"ended-{shown is None}"
    fields = {f.name: np.arange(6).reshape(3, 2) for f in dataclasses.fields(Batch)}
    whole = Batch(**{**fields, "shown": shown})
    for process, step, rows in ((2, 2, [0, 1, 2]), (0, 4, [0, 2]), (1, 4, [1])):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        share = jax.tree.map(lambda x, rows=rows: x[rows], whole)
        bad = bad_updates.BadBatch(step, share, [f"record{i}" for i in rows], np.asarray(rows))
        bad_updates.dump(bad, workdir)
    found = bad_updates.load(workdir)
    assert (found.step, found.records) == (4, ["record0", "record1", "record2"])
    jax.tree.map(np.testing.assert_array_equal, found.batch, whole)
    assert (found.batch.shown is None) == (shown is None)
    (workdir / "bad_batch-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks the share .* rows \[0, 2\]"):
        bad_updates.load(workdir)


def contents_of(workdir) -> dict:
    """What a run leaves: arrays, files and the scalars of its events."""
    with storage.local_copy(workdir) as folder:
        return chaos.contents(folder)


class Writing(tiny_run.NoEvaluation):
    """Writes what depends on the parameters, as an evaluation does."""

    def sample(self, step, params, writer):
        leaf = np.asarray(jax.tree.leaves(params)[0], np.float32)
        image = Image.frombytes("L", (leaf.nbytes, 1), leaf.tobytes())
        saved_images.write(image, self.workdir / "samples" / f"{step}.png")

    def final(self, step, params, history):
        sums = [float(leaf.sum()) for leaf in jax.tree.leaves(params)]
        results = json.dumps({"step": step, "sums": sums, "losses": history})
        workdir_lib.write_text(self.workdir / "results.json", results)


@pytest.mark.slow
def test_a_run_in_a_bucket_resumes_and_ends_as_one_on_a_disk(
    url, avatars_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(loop, "Evaluator", Writing)
    config = tiny_run.config(avatars_dir)
    whole, workdir = tmp_path / "whole", epath.Path(url) / "run"
    loop.train(config, whole)
    loop.train(config, workdir)
    storage.remove_folder(workdir / "checkpoints/6")
    (workdir / "results.json").unlink()
    loop.train(config, workdir)
    assert "Resuming at step 3." in capsys.readouterr().out
    expected, found = contents_of(whole), contents_of(workdir)
    assert {"results.json", "samples/3.png", "samples/6.png", "loss.json", "loss 6"} <= set(found)
    assert chaos.differences(expected, found) == []
    assert len([path for path in storage.files(workdir) if "tfevents" in path.name]) == 2
