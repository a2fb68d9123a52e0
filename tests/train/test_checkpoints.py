"""Checkpoints that are damaged, in odd folders, or of an older version."""

import contextlib
import dataclasses
import json
import pathlib
import resource
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rbjax.data import disk_space
from rbjax.storage import StoredPath
from rbjax.train import checkpoint_files, checkpoints, frozen_copy
from rbjax.train import state as states
from rbjax.train import step as step_lib


def test_without_a_checkpoint_nothing_is_restored(tmp_path):
    assert checkpoints.restore(tmp_path, abstract=None, data=None) is None


class Data:
    """Stands for the iterator of a training's data."""

    def __init__(self, position: int):
        self.position = position

    def get_state(self) -> dict:
        return {"position": self.position}

    def set_state(self, state: dict) -> None:
        self.position = state["position"]


def state_of(step: int) -> states.TrainState:
    w = {"w": jnp.full((3, 4), step, jnp.float32)}
    return states.TrainState(jnp.asarray(step), w, {"f": jnp.ones(2)}, w, ({"mu": w}, ()))


def metrics_of(step: int) -> step_lib.TrainMetrics:
    zero = jax.tree.leaves(step_lib.TrainMetrics.empty())
    values = [jnp.asarray(step / 3 + i, x.dtype) for i, x in enumerate(zero)]
    return jax.tree.unflatten(jax.tree.structure(step_lib.TrainMetrics.empty()), values)


def saved(workdir: StoredPath, steps: tuple[int, ...] = (2, 4)) -> StoredPath:
    """Saves checkpoints; returns their folder."""
    for step in steps:
        checkpoints.save(
            workdir, step, state=state_of(step), data=Data(10 * step), metrics=metrics_of(step)
        )
    return workdir / "checkpoints"


def restored_step(workdir: StoredPath, make_frozen=None, is_start_known=False) -> int:
    """The step that is restored; its arrays and the data's position are compared."""
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_of(0)
    )
    data = Data(0)
    state = checkpoints.restore(
        workdir,
        abstract=abstract,
        data=data,
        make_frozen=make_frozen,
        is_start_known=is_start_known,
    )
    metrics = checkpoints.read_metrics(workdir, int(state.step), metrics_of(0))
    jax.tree.map(np.testing.assert_array_equal, state, state_of(int(state.step)))
    jax.tree.map(np.testing.assert_array_equal, metrics, metrics_of(int(state.step)))
    assert data.position == 10 * int(state.step)
    return int(state.step)


@pytest.mark.parametrize(
    "name",
    [
        *("lr=[1e-3,2e-3]", "a*b", "[data] x{1}", "q?", "back\\slash", "100%20", "a#b;c&d", "\n"),
        *("$HOME", "~x", "gs:", "\u00fc \u2713", "'\"", "!x", "[!a]", "x\udcff"),
    ],
)
def test_a_working_directory_may_have_any_name(tmp_path, name):
    workdir = tmp_path / name
    assert saved(workdir).is_dir()
    assert list(tmp_path.iterdir()) == [workdir]
    assert restored_step(workdir) == 4
    assert saved(workdir, (6,)).is_dir() and restored_step(workdir) == 6
    assert checkpoint_files.steps(workdir / "checkpoints") == [6, 4]


def truncate(path: StoredPath) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: StoredPath) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, pathlib.Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage, caplog):
    folder = saved(tmp_path / "made")
    files = [p.relative_to(folder) for p in (folder / "4").rglob("*") if p.is_file()]
    files = [p for p in files if p.name != "checksums.json" and (folder / p).stat().st_size]
    assert len(files) > 8
    for number, file in enumerate(files):
        workdir = tmp_path / str(number)
        shutil.copytree(folder, workdir / "checkpoints")
        damage(workdir / "checkpoints" / file)
        caplog.clear()
        assert restored_step(workdir) == 2, file
        assert str(workdir / "checkpoints" / file) in caplog.text
        assert len(list((workdir / "checkpoints").glob("4.damaged-*"))) == 1
        saved(workdir, (4,))  # the same step again
        assert restored_step(workdir) == 4


def arrays_of(path: pathlib.Path) -> dict:
    with ocp.StandardCheckpointer() as reader:
        return reader.metadata(path).item_metadata.tree


def test_frozen_parameters_are_stored_once(tmp_path):
    folder = saved(tmp_path)
    before = {path: path.read_bytes() for path in (folder / "frozen").rglob("*") if path.is_file()}
    saved(tmp_path, (6,))
    assert {path: path.read_bytes() for path in before} == before
    assert not any(arrays_of(folder / str(step) / "state")["frozen"] for step in (4, 6))
    assert set(arrays_of(folder / "frozen")) == {"f"}


def older(workdir: pathlib.Path, steps: tuple[int, ...]) -> pathlib.Path:
    """Saves checkpoints as older versions did, with the frozen parameters in each."""
    folder = workdir / "checkpoints"
    folder.mkdir()
    for step in steps:
        items = {
            "state": ocp.args.StandardSave(state_of(step)),
            checkpoints.DATA: ocp.args.JsonSave(Data(10 * step).get_state()),
            checkpoints.METRICS: ocp.args.JsonSave(
                {"values": [np.asarray(x).item() for x in jax.tree.leaves(metrics_of(step))]}
            ),
        }
        with checkpoints._manager(folder) as manager:
            manager.save(step, args=ocp.args.Composite(**items))
        checkpoint_files.write_checksums(folder / str(step))
    return folder


def test_a_run_of_an_older_version_goes_on(tmp_path, caplog):
    folder = older(tmp_path, (2, 4))
    assert arrays_of(folder / "4/state")["frozen"] and not (folder / "frozen").exists()
    caplog.clear()  # of what the line before asked for
    assert restored_step(tmp_path) == 4
    saved(tmp_path, (6,))
    assert restored_step(tmp_path) == 6 and not caplog.text
    truncate(folder / "frozen/manifest.ocdbt")
    assert restored_step(tmp_path) == 4  # which needs no copy
    assert f"{folder / 'frozen/manifest.ocdbt'} is not what was saved" in caplog.text
    saved(tmp_path, (6,))


@pytest.mark.parametrize("damage", [truncate, flip, pathlib.Path.unlink])
def test_a_damaged_copy_of_the_frozen_parameters_is_named(tmp_path, damage):
    made = saved(tmp_path / "made") / "frozen"
    for number, file in enumerate(p for p in made.rglob("*") if p.is_file() and p.stat().st_size):
        workdir = tmp_path / str(number)
        shutil.copytree(made.parent, workdir / "checkpoints")
        path = workdir / "checkpoints/frozen" / file.relative_to(made)
        damage(path)
        if path.name == checkpoint_files.CHECKSUMS:  # each checkpoint has them too
            assert restored_step(workdir) == 4
            continue
        with pytest.raises(ValueError, match=f"{path} is (not what was saved|missing)") as error:
            restored_step(workdir)
        assert "made again by the training's own command" in str(error.value)


def damaged_copies(folder: pathlib.Path, workdir: pathlib.Path):
    """Yields working directories in which a file, or all, of the copy is damaged or missing."""
    files = [p for p in (folder / "frozen").rglob("*") if p.is_file() and p.stat().st_size]
    files = [p.relative_to(folder) for p in files if p.name != checkpoint_files.CHECKSUMS]
    for number, file in enumerate([*files, "frozen"]):
        path = workdir / str(number) / "checkpoints"
        shutil.copytree(folder, path)
        shutil.rmtree(path / file) if file == "frozen" else flip(path / file)
        yield path.parent


def test_a_damaged_copy_is_made_again_from_what_the_run_began_with(tmp_path, caplog, capsys):
    folder = saved(tmp_path / "made")
    for workdir in damaged_copies(folder, tmp_path):
        caplog.clear()
        assert restored_step(workdir, lambda: state_of(0).frozen) == 4
        assert f"are damaged ({workdir / 'checkpoints/frozen'}" in caplog.text
        assert f"{workdir / 'checkpoints/frozen'} is made again" in capsys.readouterr().out
        caplog.clear()
        for step in (2, 4):
            assert not checkpoint_files.find_damage(workdir / "checkpoints" / str(step))
        assert saved(workdir, (6,)) and restored_step(workdir, pytest.fail) == 6
        assert not caplog.text


def without_digests(workdir: pathlib.Path) -> None:
    """Leaves checkpoints as versions did that noted no digest."""
    folder = workdir / "checkpoints"
    for path in (folder / "2", folder / "4", folder / "frozen"):
        note = path / frozen_copy.DIGEST
        shutil.rmtree(note) if note.is_dir() else note.unlink(missing_ok=True)
        sums = path / checkpoint_files.CHECKSUMS
        found = json.loads(sums.read_text()).items()
        sums.write_text(json.dumps({k: v for k, v in found if frozen_copy.DIGEST not in k}))


def test_without_a_digest_the_copy_is_made_from_the_weights_of_the_start_alone(tmp_path, capsys):
    saved(tmp_path / "made")
    without_digests(tmp_path / "made")
    assert restored_step(tmp_path / "made", pytest.fail) == 4
    for workdir in damaged_copies(tmp_path / "made/checkpoints", tmp_path):
        with pytest.raises(ValueError, match=r"of this run are lost: .*/frozen.* not known"):
            restored_step(workdir, lambda: state_of(0).frozen)
        assert restored_step(workdir, lambda: state_of(0).frozen, is_start_known=True) == 4
        assert "made again, from the weights that the run began with" in capsys.readouterr().out
        assert saved(workdir, (6,)) and restored_step(workdir, pytest.fail) == 6


def test_other_values_than_the_lost_ones_are_refused(tmp_path):
    folder = saved(tmp_path / "made")
    others = ({"f": jnp.full(2, 1 + 1e-7)}, {"f": jnp.ones(2, "bfloat16")}, {"g": jnp.ones(2)}, {})
    for workdir in damaged_copies(folder, tmp_path):
        for other in others:
            with pytest.raises(ValueError, match=r"of this run are lost: .*/frozen.* not known"):
                restored_step(workdir, lambda other=other: other)
        for step in (2, 4):  # the digest cannot be read
            flip(workdir / f"checkpoints/{step}/{frozen_copy.DIGEST}/metadata")
        with pytest.raises(ValueError, match="none of the checkpoints"):
            restored_step(workdir, lambda: state_of(0).frozen)
        assert checkpoint_files.steps(workdir / "checkpoints") == [4, 2]


def test_a_copy_that_belongs_to_no_checkpoint_is_written_again(tmp_path):
    folder = saved(tmp_path)
    for step in (2, 4):  # by the user, who starts anew
        shutil.rmtree(folder / str(step))
    state = dataclasses.replace(state_of(6), frozen={"f": jnp.zeros(2)})
    checkpoints.save(tmp_path, 6, state=state, data=Data(60))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    found = checkpoints.restore_state(tmp_path, abstract)
    np.testing.assert_array_equal(found.frozen["f"], np.zeros(2))


def test_a_checkpoint_of_an_older_version_has_no_checksums(tmp_path, caplog):
    folder = saved(tmp_path)
    for path in folder.glob("*/checksums.json"):
        path.unlink()
    assert restored_step(tmp_path) == 4 and not caplog.text
    (folder / "4/state/manifest.ocdbt").unlink()
    assert restored_step(tmp_path) == 2 and "4 is damaged" in caplog.text


def test_damaged_checksums_are_damage(tmp_path):
    """Of their checkpoint only: the copy of the frozen parameters is not made again."""
    truncate(saved(tmp_path) / "4/checksums.json")
    assert restored_step(tmp_path, pytest.fail) == 2


def test_where_no_checkpoint_can_be_read_it_is_an_error(tmp_path):
    folder = saved(tmp_path)
    for step in (2, 4):
        (folder / f"{step}/state/manifest.ocdbt").unlink()
    with pytest.raises(ValueError, match="none of the checkpoints in") as error:
        restored_step(tmp_path)
    assert all(f"/{step}/state/manifest.ocdbt is missing" in str(error.value) for step in (2, 4))
    assert checkpoint_files.steps(folder) == [4, 2]


def test_an_intact_checkpoint_that_does_not_fit_is_not_damage(tmp_path):
    folder = saved(tmp_path)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((7,), x.dtype, sharding=x.sharding), state_of(0)
    )
    with pytest.raises(ValueError, match="shape"):
        checkpoints.restore(tmp_path, abstract=abstract, data=Data(0))
    assert checkpoint_files.steps(folder) == [4, 2] and len(list(folder.iterdir())) == 3


def test_what_cannot_be_read_back_ends_the_run(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def as_it_is(folder):
        yield folder

    monkeypatch.setattr(checkpoint_files, "orbax_path", as_it_is)
    monkeypatch.setattr(checkpoints.frozen_copy, "save", lambda *arguments: None)
    with pytest.raises(OSError, match="was saved, but cannot be read"):
        saved(tmp_path / "a[b]")


def test_what_a_killed_save_left_is_removed(tmp_path):
    (tmp_path / "checkpoints/frozen.orbax-checkpoint-tmp/d").mkdir(parents=True)
    folder = saved(tmp_path)
    (folder / "6.orbax-checkpoint-tmp-1/state").mkdir(parents=True)
    assert restored_step(tmp_path) == 4
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4", "frozen"]


def test_a_full_disk_is_named_and_costs_no_older_checkpoint(tmp_path):
    folder = saved(tmp_path)
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # bytes of a file
    try:
        with pytest.raises(OSError, match=f"step 6 cannot be written in {folder}: .* are intact"):
            saved(tmp_path, (6,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint_files.steps(folder) == [4, 2] and restored_step(tmp_path) == 4


@pytest.mark.parametrize("steps, needed", [((), 3), ((2,), 2), ((2, 4), 1)])
def test_room_for_the_checkpoints_is_checked_first(tmp_path, monkeypatch, steps, needed):
    (tmp_path / "checkpoints").mkdir()
    saved(tmp_path, steps)
    frozen = state_of(0).frozen["f"].nbytes
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state_of(0))) - frozen
    least = needed * size + (0 if steps else frozen)
    for free in (least - 1, least):
        usage = types.SimpleNamespace(free=free)
        monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _, usage=usage: usage)
        if free < least:
            with pytest.raises(OSError, match="GB are free: make room, or give a --workdir"):
                checkpoints.check_space(tmp_path, state_of(0))
        else:
            checkpoints.check_space(tmp_path, state_of(0))
