"""A whole evaluation of a run on avatars, with real images in place of generated ones."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from rbjax.evaluation import baselines, judging, scoring, variants
from rbjax.evaluation.evaluator import Evaluator
from rbjax.evaluation.generator import CaseGenerator
from rbjax.experiment import setup as setup_lib
from tests.helpers import tiny_run


class Writer:
    """Keeps what would go to TensorBoard."""

    def __init__(self):
        self.scalars = {}

    def write_scalars(self, step, scalars):
        self.scalars[step] = scalars


@pytest.fixture
def asked(monkeypatch):
    """Lets a real image stand for each that is generated; returns the cases that were asked for."""
    cases = []

    def generate(self, params, asked_for, *, blank=False, references_of=None, guidance=None):
        for case in asked_for:  # as the model would be given it
            self._example(case, case, 4, blank=blank)
        cases.extend(asked_for)
        shown = [case.references[0] if case.real is None else case.real for case in asked_for]
        return self.read_images(shown)

    monkeypatch.setattr(CaseGenerator, "generate", generate)
    monkeypatch.setattr(judging.VQA, "load", lambda *folder: tiny_run.VQA())
    return cases


@pytest.fixture
def evaluator(avatars_dir, asked, tmp_path):
    config = tiny_run.config(avatars_dir)
    exp = setup_lib.setup(setup_lib.resolve(config))
    with jax.set_mesh(exp.mesh):
        yield Evaluator.create(exp, tmp_path)


def test_everything_is_measured_and_every_row_is_in_the_report(evaluator, tmp_path, asked, capsys):
    evaluator.final(6, {}, [(1, 0.5), (2, 0.4)])
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["rows"]) == {*baselines.SYSTEMS, *variants.VARIANTS}
    assert {case.transformation for case in asked} == {"", *variants.TRANSFORMATIONS}
    assert max(len(case.references) for case in asked) == 4
    assert results["truth"]["images"] == 2
    assert {len(points) for points in results["guidance"]["curves"].values()} == {5}
    assert set(results["copying"]) == set(results["rows"])
    assert results["copying"]["real_images"]["pixels"]["mean"] == pytest.approx(-1)
    assert results["separability"]["face"].keys() == {"free", "outfit", "identity"}
    assert results["out_of_domain"]["suite"] == "test_out_of_domain"
    assert set(results["out_of_domain"]["rows"]) >= {"trained", "real_images"}
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Out of domain" in page and "Beside drawings" in page and "Copying" in page
    assert "What guidance trades" in page
    assert len(list((tmp_path / "report" / "images").iterdir())) == len(results["rows"]) + 1
    assert "Out of domain" in capsys.readouterr().out


def test_while_training_other_characters_are_scored_than_at_the_end(evaluator, asked):
    writer = Writer()
    evaluator.periodic(3, {}, writer)
    assert any(name.startswith("eval/trained/") for name in writer.scalars[3])
    splits = [evaluator._development.generator.examples.split, evaluator.generator.examples.split]
    assert [split.name for split in splits] == ["validation", "test"]
    names = [set(split.clusters.names) for split in splits]
    assert not names[0] & names[1]


def test_intervals_out_of_domain_are_as_exact_as_those_of_the_test(evaluator, monkeypatch):
    found, score = [], scoring.score

    def noted(*args, **options):
        found.append(options.get("resamples"))
        return score(*args, **options)

    monkeypatch.setattr(scoring, "score", noted)
    evaluator._out_of_domain({})
    evaluator.final(6, {})
    assert len(set(found[:2])) == 1


def test_only_what_the_model_reads_of_a_prompt_is_asked_for_and_scored(evaluator, capsys):
    full = evaluator.suite().cases
    assert "are cut" not in capsys.readouterr().out
    with evaluator.exp.config.unlocked():
        evaluator.exp.config.data.max_tokens = 6
    pairs = list(zip(full, evaluator.suite().cases, strict=True))
    fitting = evaluator.generator.examples.fitting
    assert all(case.prompt == tuple(fitting(whole.prompt)) for whole, case in pairs)
    cut = sum(whole != case for whole, case in pairs)
    assert f"{cut} of 16 prompts are cut to what the model reads." in capsys.readouterr().out
    assert cut > 4
    alone = dataclasses.replace(evaluator, has_model=False)  # others' images
    assert alone.suite().cases == full


def test_a_missing_split_is_told(evaluator, capsys):
    with evaluator.exp.config.unlocked():
        evaluator.exp.config.eval.out_of_domain_split = "test_elsewhere"
    assert evaluator._out_of_domain({}) is None
    assert "has no split 'test_elsewhere': nothing is out of domain" in capsys.readouterr().out


def test_the_generator_of_another_split_compiles_nothing_anew(evaluator):
    other = evaluator._development.generator
    assert other._generate is evaluator.generator._generate
    assert other.examples is not evaluator.generator.examples
    np.testing.assert_array_equal(other.read_images([0]).shape, (1, 12, 12, 3))
