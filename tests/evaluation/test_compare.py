"""Paired differences of two evaluations."""

import json

import numpy as np
import pytest

from rbjax.evaluation import compare


def results(values, *, seeds=None, row="trained", hits=None):
    """Results with one value a case, three cases a character."""
    scored = [
        {
            "character": i // 3,
            "references": [i],
            "concepts": ["face"],
            "prompt": ["solo"],
            "seed": i if seeds is None else seeds[i],
            "repeat": 0,
            "columns": {"vqa_flexibility": value, "leakage": None},
        }
        for i, value in enumerate(values)
    ]
    made = {"schema": 2, "scored": {row: scored}}
    if hits is not None:
        made["nearest"] = {"rows": {row: {"pixels": {"images": hits}}}}
    return made


ROWS = ("trained", "trained")


def test_a_constant_difference_is_found_exactly_whatever_the_cases():
    hard = np.random.default_rng(0).uniform(0, 1, 30)
    found = compare.compare(results(hard), results(hard + 0.1), ROWS)["vqa_flexibility"]
    assert found == pytest.approx((0.1, 0.1, 0.1, 30))


def test_the_same_evaluation_differs_by_nothing():
    one = results([0.5, 0.2, 1.0] * 4)
    assert compare.compare(one, one, ROWS)["vqa_flexibility"][:3] == (0, 0, 0)


def test_pairing_is_by_case_not_by_order_and_in_both_only():
    first, second = results([0.0, 0.5, 1.0]), results([0.0, 0.5, 1.0, 0.3])
    second["scored"]["trained"].reverse()
    found = compare.compare(first, second, ROWS)["vqa_flexibility"]
    assert found == pytest.approx((0, 0, 0, 3))


def test_intervals_are_over_characters():
    """Nine images of three characters: as wide as for three values."""
    differences = np.repeat([0.0, 0.3, 0.6], 3)
    found = compare.compare(results(np.zeros(9)), results(differences), ROWS)["vqa_flexibility"]
    assert found[:3] == pytest.approx((0.3, 0.0, 0.6))


def test_values_that_are_missing_in_one_are_left_out_and_columns_without_any():
    first, second = results([0.1, None, 0.3]), results([0.2, 0.2, None])
    found = compare.compare(first, second, ROWS)
    assert found["vqa_flexibility"] == pytest.approx((0.1, 0.1, 0.1, 1))
    assert found["leakage"] is None
    assert "leakage" not in compare.table(found, ("A", "B"))


def test_nearest_targets_are_compared_too():
    first = results([0.1] * 6, hits=[True, None, False] * 2)
    second = results([0.1] * 6, hits=[True, True, True] * 2)
    found = compare.compare(first, second, ROWS)
    assert found["nearest by pixels"] == pytest.approx((0.5, 0.5, 0.5, 4))
    text = compare.table(found, ("A", "B"))
    assert "| nearest by pixels | +50.0 [+50.0, +50.0] * | 4 |" in text
    assert "| VQA flexibility | +0.0 [+0.0, +0.0] | 6 |" in text


@pytest.mark.parametrize("name, value", [("suite", "test"), ("size", 64), ("asked", ["hair"])])
def test_evaluations_that_were_scored_otherwise_are_refused(name, value):
    one = results([0.1, 0.2])
    with pytest.raises(ValueError, match=f"cannot be compared: {name} is None in the first"):
        compare.compare(one, one | {name: value}, ROWS)


def test_what_cannot_be_compared_is_refused(tmp_path):
    one = results([0.1, 0.2])
    with pytest.raises(ValueError, match="no row 'other', only trained"):
        compare.compare(one, one, ("trained", "other"))
    with pytest.raises(ValueError, match="no case in common"):
        compare.compare(one, results([0.1, 0.2], seeds=[7, 8]), ROWS)
    with pytest.raises(FileNotFoundError, match=r"results.json is missing: --compare"):
        compare.read(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"schema": 1, "rows": {}}))
    with pytest.raises(ValueError, match=r"no values of single images \(schema 1\)"):
        compare.read(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        compare.read(tmp_path)
