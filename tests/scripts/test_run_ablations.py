"""Ablations: what is run, what is skipped, and the table of what is there."""

import importlib.util
import json
import pathlib
import types

import pytest

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


def write_run(folder, seed, value, **config):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"seed": seed, "total_steps": 3, **config}))
    cells = {name: {"mean": value} for name in COLUMNS} | {COLUMNS[-1]: None}
    (folder / "results.json").write_text(json.dumps({"step": 3, "rows": {"trained": cells}}))


@pytest.fixture
def runs(script, monkeypatch):
    """Stands for the runs: notes their commands, writes results, fails for drop_prompt_90."""
    commands = []

    def run(command, **_):
        commands.append(command)
        options = dict(option.split("=") for option in command if "=" in option)
        change = command[4].partition(":")[2]
        if change.endswith("drop_prompt_90"):
            return types.SimpleNamespace(returncode=1)
        seed = int(options["--config.seed"])
        write_run(pathlib.Path(options["--workdir"]), seed, 0.2 + 0.1 * seed)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(script.subprocess, "run", run)
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
    assert all(command[-1] == "--config.total_steps=3" for command in runs)
    start(script, tmp_path, *options)
    assert len(runs) == 4  # finished
    (tmp_path / "unchanged" / "seed_1" / "results.json").unlink()
    start(script, tmp_path, *options)
    assert len(runs) == 5 and "--config.seed=1" in runs[-1]


def test_table_plot_and_how_they_were_made(script, runs, tmp_path):
    start(script, tmp_path, "unchanged", "time_zero")
    text = (tmp_path / "table.md").read_text()
    assert "| time_zero | 2 | 25.0 (20.0 to 30.0) |" in text and "| – |" in text
    record = json.loads((tmp_path / "table.json").read_text())
    assert record["seeds"] == [0, 1] and record["device"].startswith("CPU")
    assert "--changes unchanged time_zero" in record["command"]
    assert record["values"]["unchanged"]["1"][COLUMNS[0]] == pytest.approx(0.3)
    assert (tmp_path / "ablations.png").stat().st_size > 5000


def test_runs_that_fail_are_named_and_the_others_stand_in_the_table(script, runs, tmp_path):
    with pytest.raises(
        SystemExit, match="failed, and are not in the table: .*drop_prompt_90/seed_0"
    ):
        start(script, tmp_path, "drop_prompt_90", "unchanged")
    assert "| unchanged | 2 |" in (tmp_path / "table.md").read_text()


def test_seeds_of_other_settings_are_no_repetition(script, tmp_path):
    write_run(tmp_path / "unchanged" / "seed_0", 0, 0.5)
    write_run(tmp_path / "unchanged" / "seed_1", 1, 0.5, batch_size=7)
    with pytest.raises(SystemExit, match="other settings than the other seeds of 'unchanged'"):
        start(script, tmp_path, "unchanged", "--table_only")
    with pytest.raises(SystemExit, match="holds no finished run"):
        start(script, tmp_path / "nothing", "unchanged", "--table_only")


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
