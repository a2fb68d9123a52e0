"""A run in a bucket is the run on a disk: the same files, resumed, and mended where damaged."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from clu import metric_writers
from etils import epath
from PIL import Image

from rbjax import storage
from rbjax.evaluation import saved_images
from rbjax.experiment import workdir as workdir_lib
from rbjax.train import loop
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


def files_of(workdir) -> dict:
    """What a run leaves, but for what depends on the place and the time."""
    paths = {path.relative_to(workdir).as_posix(): path for path in storage.files(workdir)}
    return {
        name: path.read_bytes()
        for name, path in paths.items()
        if not name.startswith(("checkpoints/", ".lock", "events"))
    }


def arrays_of(path) -> dict:
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(path)


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
def test_a_run_in_a_bucket_resumes_and_ends_with_the_files_of_one_on_a_disk(
    url, avatars_dir, tmp_path, monkeypatch, capsys
):
    """TensorFlow, which writes the events, cannot be told where the bucket is: they lie apart."""
    create = metric_writers.create_default_writer
    events = str(tmp_path / "events")

    def create_writer(workdir, **options):
        return create(events if workdir.startswith("gs://") else workdir, **options)

    monkeypatch.setattr(metric_writers, "create_default_writer", create_writer)
    monkeypatch.setattr(loop, "Evaluator", Writing)
    config = tiny_run.config(avatars_dir)
    whole, workdir = tmp_path / "whole", epath.Path(url) / "run"
    loop.train(config, whole)
    loop.train(config, workdir)
    storage.remove_folder(workdir / "checkpoints/6")
    (workdir / "results.json").unlink()
    loop.train(config, workdir)
    assert "Resuming at step 3." in capsys.readouterr().out
    expected, found = files_of(whole), files_of(workdir)
    assert {"results.json", "samples/3.png", "samples/6.png", "loss.json"} <= set(found)
    assert {n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n)} == set()
    states = [arrays_of(folder / "checkpoints/6/state") for folder in (whole, workdir)]
    jax.tree.map(np.testing.assert_array_equal, *states)
