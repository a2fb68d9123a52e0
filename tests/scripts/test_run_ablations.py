"""Ablations: what is run, what is skipped, and the table of what is there."""

import importlib.util
import json
import pathlib
import types

import pytest
from flax import traverse_util

from configs import ablations
from rbjax.evaluation.results import COLUMNS
from tests.helpers import stable_diffusion_run

PATH = pathlib.Path(__file__).parents[2] / "scripts" / "run_ablations.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("run_ablations", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(folder, seed, value, *, change="unchanged", **fields):
    """Writes a finished run; fields are of the configuration, `data__faces` for `data.faces`."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    config = {"total_steps": 3, **ablations.CHANGES.get(change, {}), **fields, "seed": seed}
    config = traverse_util.unflatten_dict(config, sep=".")
    (folder / "config.json").write_text(json.dumps(config))
    cells = {name: {"mean": value} for name in COLUMNS} | {COLUMNS[-1]: None}
    (folder / "results.json").write_text(json.dumps({"step": 3, "rows": {"trained": cells}}))


@pytest.fixture
def runs(script, monkeypatch):
    """Stands for the runs: notes their commands, writes results, fails for drop_prompt_90.

    A run of as many steps is finished, as `rbjax.main` says.
    """
    commands = []

    def run(command, **_):
        commands.append(command)
        options = dict(option.split("=") for option in command if "=" in option)
        change = command[4].partition(":")[2].rpartition(",")[2]
        if change == "drop_prompt_90":
            return types.SimpleNamespace(returncode=1)
        folder, seed = pathlib.Path(options["--workdir"]), int(options["--config.seed"])
        steps = int(options.get("--config.total_steps", 3))
        path = folder / "config.json"
        if not path.exists() or json.loads(path.read_text())["total_steps"] < steps:
            write_run(folder, seed, 0.2 + 0.1 * seed, change=change, total_steps=steps)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(script.subprocess, "run", run)
    monkeypatch.setattr(script, "device", lambda: "2 x a device")
    return commands


def start(script, tmp_path, *options):
    script.main(["--out", str(tmp_path), "--seeds", "0", "1", "--changes", *options])


def test_every_change_and_seed_is_run_once(script, runs, tmp_path):
    options = ["unchanged", "drop_prompt_0", "--", "--config.total_steps=3"]
    start(script, tmp_path, *options)
    assert len(runs) == 4
    assert [c[4] for c in runs[::2]] == [
        "configs/composition.py:avatars",
        "configs/ablations.py:avatars,drop_prompt_0",
    ]
    assert all("--config.total_steps=3" in command for command in runs)
    start(script, tmp_path, *options)
    assert len(runs) == 4  # finished
    folder = tmp_path / "unchanged" / "seed_1"
    for name in ("results.json", "config.json"):
        (folder / name).unlink()
    start(script, tmp_path, *options)
    assert len(runs) == 5 and "--config.seed=1" in runs[-1]


def test_a_run_of_other_options_is_no_run_of_these(script, runs, tmp_path):
    start(script, tmp_path, "unchanged", "--", "--config.total_steps=2")
    start(script, tmp_path, "unchanged")  # goes on
    assert len(runs) == 4
    made = json.loads((tmp_path / "table.json").read_text())["runs"]["unchanged"]["0"]
    assert "total_steps" not in made["command"]
    with pytest.raises(
        SystemExit, match=r"seed_0 was finished by another command, 'python -m rbja"
    ):
        start(script, tmp_path, "unchanged", "--", "--config.total_steps=2")


def test_table_plot_and_how_they_were_made(script, runs, tmp_path):
    start(script, tmp_path, "unchanged", "time_zero")
    text = (tmp_path / "table.md").read_text()
    assert "| time_zero | 2 | 25.0 (20.0 to 30.0) |" in text and "| – |" in text
    assert "- time_zero, seeds 0, 1, 2 x a device: `python -m rbjax.main --config" in text
    record = json.loads((tmp_path / "table.json").read_text())
    assert record["values"]["unchanged"]["1"][COLUMNS[0]] == pytest.approx(0.3)
    assert "--config.seed=1" in record["runs"]["unchanged"]["1"]["command"]
    assert (tmp_path / "ablations.png").stat().st_size > 5000


def test_making_the_table_again_keeps_what_the_runs_were_made_with(
    script, runs, tmp_path, monkeypatch
):
    start(script, tmp_path, "unchanged", "--", "--config.total_steps=2")
    before = (tmp_path / "table.json").read_text(), (tmp_path / "table.md").read_text()
    monkeypatch.setattr(script, "device", lambda: "another device")
    start(script, tmp_path, "unchanged", "--table_only")
    assert before == ((tmp_path / "table.json").read_text(), (tmp_path / "table.md").read_text())


def test_runs_that_fail_are_named_and_the_others_stand_in_the_table(script, runs, tmp_path):
    message = "failed, and are not in the table: .*drop_prompt_90/seed_0"
    with pytest.raises(SystemExit, match=message):
        start(script, tmp_path, "drop_prompt_90", "unchanged")
    assert "| unchanged | 2 |" in (tmp_path / "table.md").read_text()
    with pytest.raises(SystemExit, match=message):
        start(script, tmp_path / "alone", "drop_prompt_90")


def test_seeds_of_other_settings_are_no_repetition(script, tmp_path):
    write_run(tmp_path / "unchanged" / "seed_0", 0, 0.5)
    write_run(tmp_path / "unchanged" / "seed_1", 1, 0.5, total_steps=7)
    with pytest.raises(SystemExit, match=r"seed_1 was trained .*total_steps is 7 instead of 3"):
        start(script, tmp_path, "unchanged", "--table_only")
    with pytest.raises(SystemExit, match="holds no finished run"):
        start(script, tmp_path / "nothing", "unchanged", "--table_only")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"total_steps": 7}, "total_steps is 7 instead of 3"),
        ({"model__retrieval__reference_timestep": "x"}, "reference_timestep is 'x' instead of 'ze"),
    ],
)
def test_changes_differ_in_what_they_change_alone(script, tmp_path, fields, message):
    write_run(tmp_path / "unchanged" / "seed_0", 0, 0.5, data__faces=1)
    write_run(tmp_path / "references_4" / "seed_0", 0, 0.5, change="references_4")
    folder = tmp_path / "time_zero" / "seed_0"
    write_run(folder, 0, 0.5, change="time_zero", data__faces=1)
    start(script, tmp_path, "references_4", "unchanged", "time_zero", "--table_only")
    write_run(folder, 0, 0.5, change="time_zero", **{"data__faces": 1, **fields})
    with pytest.raises(SystemExit, match=message):
        start(script, tmp_path, "unchanged", "time_zero", "--table_only")


def test_rows_that_are_asked_for_other_cases_are_marked(script, tmp_path):
    for change, faces in (("unchanged", 1), ("references_2", 1), ("references_4", 2)):
        folder = tmp_path / change / "seed_0"
        write_run(folder, 0, 0.5, change=change, data__faces=faces, data__clothes=faces)
    start(script, tmp_path, "unchanged", "references_2", "references_4", "--table_only")
    text = (tmp_path / "table.md").read_text()
    assert "| references_4 † |" in text and "| references_2 |" in text
    assert "† Not the cases of the first row" in text


def test_unknown_changes_are_refused_before_anything_trains(script, runs, tmp_path):
    with pytest.raises(SystemExit, match="--changes: time_zreo: use some of unchanged, train_dec"):
        start(script, tmp_path, "unchanged", "time_zreo")
    assert not runs


FEW = stable_diffusion_run.SMALL | {
    **{"data.size": 48, "data.cached_latents": False, "eval.batch_size": 8, "mesh.data": 1},
    **{"eval.characters": 2, "eval.prompts": 1, "eval.repeats": 1, "eval.open_characters": 0},
    **{"eval.variant_characters": 0, "eval.truth_images": 0, "sample_images": 1},
    "sampling.steps": 1,
}


@pytest.mark.slow
def test_every_change_trains_for_real_and_goes_on(script, avatars_dir, tmp_path):
    """Two updates of each, about a minute; the weights are small and random."""
    from tests.helpers import stable_diffusion_folder  # needs torch

    stable_diffusion_folder.write(tmp_path / "sd")
    settings = FEW | {"pretrained": tmp_path / "sd", "data_dir": avatars_dir}
    rest = [f"--config.{name}={value}" for name, value in settings.items()]
    options = ["--base=sd15", "--seeds=0", f"--out={tmp_path / 'out'}"]
    script.main([*options, "--changes", *ablations.CHANGES, "--", *rest])
    record = json.loads((tmp_path / "out" / "table.json").read_text())
    assert list(record["values"]) == list(ablations.CHANGES)
    for values in record["values"].values():
        assert 0 <= values["0"]["vqa_flexibility"] <= 1
    run = tmp_path / "out" / "view_crop" / "seed_0"
    before = (run / "results.json").read_bytes()
    (run / "results.json").unlink()  # as if it were ended before: it goes on from its checkpoint
    script.main([*options, "--changes", "view_crop", "--", *rest])
    assert (run / "results.json").read_bytes() == before
