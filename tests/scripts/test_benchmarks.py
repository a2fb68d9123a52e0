"""The benchmarks start; the programs that they measure, at full size but without arrays."""

import functools
import importlib
import itertools
import pathlib

import jax
import pytest
import torch
from flax import nnx

from rbjax.models import params as params_lib
from rbjax.train import state as state_lib
from rbjax.train import step
from scripts import benchmarks
from scripts.benchmarks import (
    collect,
    columns,
    generate,
    growth,
    input_pipeline,
    outfits,
    records,
    scoring,
    sd15_model,
    start,
    synthetic_danbooru,
    torch_peer,
    train_step,
)
from tests.helpers import blip_folder, tiny_run


def settings(*flags: str):
    parser = sd15_model.make_parser("")
    args = parser.parse_args(["--size", "64", "--batch_size", "2", *flags])
    return args, sd15_model.make_config(args, 64)


def test_the_update_can_be_traced():
    args, config = settings("--remat")
    graphdef, make_params = train_step.make_model(config)
    update = train_step.make_update(config, graphdef)
    state = jax.eval_shape(lambda: state_lib.init(make_params(), config.train, config.total_steps))
    batch = sd15_model.make_batch(64, count=2, references=args.references)
    after, _ = jax.eval_shape(update, state, step.TrainMetrics.empty(), batch)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)


@pytest.mark.parametrize("flags", [[], ["--tiny"]])
def test_the_peer_has_as_many_parameters(flags):
    args, config = settings(*flags)
    params = jax.eval_shape(train_step.make_model(config)[1])
    trained, _ = params_lib.split_trained(
        params, list(config.train.trained), list(config.train.frozen)
    )
    with torch.device("meta"):
        peer = torch_peer.Networks(sd15_model.make_parts(tiny=args.tiny), torch.float32)
    assert count(params) == sum(x.numel() for x in peer.parameters())
    assert count(trained) == sum(x.numel() for x in peer.trained())


def count(params: nnx.State) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def test_scoring_is_timed_in_three_ways_with_the_same_answers(tmp_path, capsys):
    blip_folder.make(tmp_path)
    scoring.main(["--vqa", str(tmp_path), "--images=2", "--questions=3", "--batch_size=4"])
    text = capsys.readouterr().out
    ways = ("transformers, one at a time", "transformers, batched", "rbjax")
    assert [line.startswith(way) for way in ways for line in text.splitlines()].count(True) == 3
    assert "2 images, 3 questions each" in text and "rbjax True" in text
    assert text.count("times as fast") == 2


COMMANDS = [path.stem for path in pathlib.Path(benchmarks.__path__[0]).glob("*.py")]


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"__init__", "sd15_model"}))
def test_every_benchmark_has_a_command_line(name, capsys):
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"scripts.benchmarks.{name}").main(["--help"])
    assert end.value.code == 0 and "--help" in capsys.readouterr().out


def test_the_input_pipeline_and_its_peer_are_timed(capsys, monkeypatch):
    """The peer loads in this process."""
    monkeypatch.setattr(input_pipeline, "AHEAD", 2)
    sizes = ["--images=24", "--examples=2", "--batch=2", "--size=32", "--rounds=1", "--workers=0"]
    input_pipeline.main(sizes)
    found = capsys.readouterr().out
    names = ("build", "Pillow loop that saves", "our loader", "torch DataLoader")
    assert all(f"| {name}" in found for name in names)
    assert found.count("| build |") == 2  # by the clock, and by processor time
    assert "images a second by the clock" in found and "images a second and core" in found


def test_jobs_take_turns_and_each_is_timed_by_every_clock():
    wall, done = itertools.count(step=2), []
    found = input_pipeline.rates(
        *(functools.partial(done.append, name) for name in "ab"),
        clocks=(lambda: next(wall), lambda: 8 * len(done)),
        rounds=2,
        amount=16,
    )
    assert done == list("abab")
    assert found == [[[8, 8], [8, 8]], [[2, 2], [2, 2]]]


def test_what_the_collection_costs_is_measured(tmp_path, capsys):
    command = ["--posts=600", f"--out={tmp_path / 'meta'}", "--files=2", "--largest=60"]
    synthetic_danbooru.main(command)
    collect.show(collect.measure(tmp_path, workers=1))
    assert "| all of the collection | 600 |" in capsys.readouterr().out


def test_what_records_cost_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "DRAWS", 10)
    records.make(tmp_path, 120)
    assert set(records.measure(tmp_path)) == {"open", "memory", "choose", "total"}


def test_what_an_update_costs_as_it_grows_is_printed(monkeypatch, capsys):
    seen = []

    def measure(config, devices):
        mesh = (config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
        seen.append((config.data.faces, config.data.clothes, config.data.size, mesh, devices))
        return growth.Cost(2e9, 3 * 2**20, 2**20, {"all-reduce": 2, "all-gather": 1}, 2**19)

    monkeypatch.setattr(growth, "measure", measure)
    growth.main(["--references", "1", "5", "--size", "96", "--devices", "2"])
    text = capsys.readouterr().out
    assert "| 5 references | 2.0 | 3.0 | 1.0 | 1 all-gather, 2 all-reduce | 0.5 |" in text
    one = (-1, 1, 1)
    assert seen[:3] == [(1, 0, 128, one, 1), (3, 2, 128, one, 1), (1, 1, 96, one, 1)]
    assert [case[3:] for case in seen[3:]] == [((2, 1, 1), 2), ((1, 2, 1), 2), ((1, 1, 2), 2)]


def test_parts_of_a_start_are_put_side_by_side(monkeypatch, capsys):
    starts = [
        {"parts": {"imports": [2.0, 1.5], "data": [10.0, 4]}, "compiled": 7, "found": 3},
        {"parts": {"imports": [2.0, 1.5], "data": [0.5, 0.4]}, "compiled": 0, "found": 10},
    ]
    seen = []

    def begin(options, folder):
        seen.append(options)
        return starts[len(seen) - 1]

    monkeypatch.setattr(start, "start", begin)
    start.main(["--config=smoke.py", "--config.seed=1"])
    assert seen == [["--config=smoke.py", "--config.seed=1"]] * 2
    text = capsys.readouterr().out
    assert "| data | 10.0 | 4.0 | 0.5 | 0.4 |\n| all | 12.0 | 5.5 | 2.5 | 1.9 |" in text
    assert "7 compiled, 3 found at the first start, 0 compiled, 10 found at the second" in text


@pytest.mark.slow
def test_a_start_ends_with_its_first_update(avatars_dir, tmp_path):
    """A wrong option is told, in the words of the training."""
    options = ["--config=configs/composition.py:smoke", f"--config.data_dir={avatars_dir}"]
    found = start.start(options, tmp_path)
    assert list(found["parts"])[0] == "imports" and list(found["parts"])[-1] == "the update"
    assert (
        min(min(pair) for pair in found["parts"].values()) >= 0
        and found["compiled"] + found["found"] > 1
    )
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    with pytest.raises(RuntimeError, match="config.batch_size=0"):
        start.start([*options, "--config.batch_size=0"], tmp_path)


@pytest.mark.slow
def test_two_devices_share_an_update(avatars_dir):
    config = tiny_run.config(avatars_dir)
    config.mesh.data = 1
    alone = growth.measure(config, 1)
    config.mesh.fsdp = 2
    shared = growth.measure(config, 2)
    assert 0.4 < shared.operations / alone.operations < 0.7
    assert shared.arguments < 0.7 * alone.arguments
    assert alone.collectives == {} and "all-gather" in shared.collectives and shared.exchanged


def test_outfits_are_found_again():
    people = outfits.synthetic(600)
    precision, recall = outfits.measure(people, outfits.Rule(), missing=0.0, answers=False)
    assert 0.3 < precision <= 1 and 0.3 < recall <= 1


@pytest.mark.slow
def test_the_columns_are_ranked(capsys):
    columns.main(["--characters=2", "--size=32"])
    assert capsys.readouterr().out.count("Spearman") == len(columns.COLUMNS)


@pytest.mark.slow
def test_steps_with_references_are_timed(capsys):
    generate.main(["--references", "1", "--repeats=1"])
    assert "avatars, " in capsys.readouterr().out


@pytest.mark.slow
def test_a_small_update_is_timed(capsys):
    options = ["--batch_size=8", "--steps=1", "--dtype=float32"]
    train_step.main(["--tiny", "--size", "64", *options])
    assert "train" in capsys.readouterr().out
