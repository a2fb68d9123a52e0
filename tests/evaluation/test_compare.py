"""Paired differences of two evaluations."""

import json

import numpy as np
import pytest

from rbjax.evaluation import compare


def results(values, *, seeds=None, row="trained", hits=None, files=None):
    """Results with one value a case, three cases a character; their references are 0, 1, ..."""
    scored = [
        {
            "character": i // 3,
            "references": [i],
            "concepts": ["face"],
            "prompt": ["solo"],
            "seed": i if seeds is None else seeds[i],
            "real": 100 + i // 3,
            "repeat": 0,
            "columns": {"vqa_flexibility": value, "leakage": None},
        }
        for i, value in enumerate(values)
    ]
    made = {"schema": 2, "scored": {row: scored}}
    if files is not None:  # images with manifests
        made["files"] = {str(i): digest for i, digest in enumerate(files)}
    if hits is not None:
        made["nearest"] = {"rows": {row: {"pixels": {"images": hits}}}}
    return made


ROWS = ("trained", "trained")


def test_a_constant_difference_is_found_exactly_whatever_the_cases():
    hard = np.random.default_rng(0).uniform(0, 1, 30)
    found = compare.compare(results(hard), results(hard + 0.1), ROWS)["vqa_flexibility"]
    assert found == pytest.approx((0.1, 0.1, 0.1, 30, 10))


def test_the_same_evaluation_differs_by_nothing():
    one = results([0.5, 0.2, 1.0] * 4)
    assert compare.compare(one, one, ROWS)["vqa_flexibility"][:3] == (0, 0, 0)


def test_pairing_is_by_case_not_by_order_and_in_both_only():
    first, second = results([0.0, 0.5, 1.0]), results([0.0, 0.5, 1.0, 0.3])
    second["scored"]["trained"].reverse()
    found = compare.compare(first, second, ROWS)["vqa_flexibility"]
    assert found == pytest.approx((0, 0, 0, 3, 1))


def test_intervals_are_over_characters():
    """Nine images of three characters: as wide as for three values."""
    differences = np.repeat([0.0, 0.3, 0.6], 3)
    found = compare.compare(results(np.zeros(9)), results(differences), ROWS)["vqa_flexibility"]
    assert found[:3] == pytest.approx((0.3, 0.0, 0.6))


def test_values_that_are_missing_in_one_are_left_out_and_columns_without_any():
    first, second = results([0.1, None, 0.3]), results([0.2, 0.2, None])
    found = compare.compare(first, second, ROWS)
    assert found["vqa_flexibility"] == pytest.approx((0.1, 0.1, 0.1, 1, 1))
    assert found["leakage"] is None
    text = compare.table(found, ("A", "B"))
    assert "| leakage" not in text
    assert "no image has a value that can be paired: P(yes), outfit agreement" in text
    assert "Similarity and copying are not compared" in text


def test_nearest_targets_are_compared_too():
    first = results([0.1] * 6, hits=[True, None, False] * 2)
    second = results([0.1] * 6, hits=[True, True, True] * 2)
    found = compare.compare(first, second, ROWS)
    assert found["nearest by pixels"] == pytest.approx((0.5, 0.5, 0.5, 4, 2))
    text = compare.table(found, ("A", "B"))
    assert "| nearest by pixels | +50.0 [+50.0, +50.0] | 4 | 2 |" in text
    assert "| VQA flexibility | +0.0 [+0.0, +0.0] | 6 | 2 |" in text


def test_nearest_is_not_compared_where_it_was_of_others():
    few, many = results([0.1] * 3, hits=[True] * 3), results([0.1] * 6, hits=[False] * 6)
    found = compare.compare(few, many, ROWS)
    assert found["nearest by pixels"] is None and found["vqa_flexibility"].cases == 3


@pytest.mark.parametrize("characters, star", [(1, ""), (5, ""), (6, " *")])
def test_a_star_needs_more_than_a_few_characters(characters, star):
    values = np.zeros(3 * characters)
    found = compare.compare(results(values), results(values + 0.1), ROWS)
    expected = f"| +10.0 [+10.0, +10.0]{star} | {3 * characters} | {characters} |"
    assert expected in compare.table(found, ("A", "B"))


def test_cases_of_manifests_are_paired_by_what_is_in_their_files():
    """Positions and characters are numbers by order, which another folder gives to others."""
    first = results([0.1, 0.2, 0.3, 0.4], files=["a", "b", "c", "d"])
    second = results([0.4, 0.3, 0.2, 0.1], files=["d", "c", "b", "a"], seeds=[3, 2, 1, 0])
    found = compare.compare(first, second, ROWS)["vqa_flexibility"]
    assert found == pytest.approx((0, 0, 0, 4, 2))
    with pytest.raises(ValueError, match="no case in common"):
        compare.compare(first, results([0.1] * 4, files=["e", "f", "g", "h"]), ROWS)


def test_two_images_of_one_case_are_refused():
    one = results([0.1, 0.2, 0.3], files=["a", "b", "b"], seeds=[1, 2, 2])
    with pytest.raises(ValueError, match="images 1 and 2 of the row 'trained' have the same"):
        compare.compare(one, one, ROWS)


def test_evaluations_of_different_data_sets_are_refused():
    one, centered, varied = (results([0.1]) | of for of in ({}, {"dataset": "c"}, {"dataset": "v"}))
    with pytest.raises(ValueError, match="dataset is 'c' in the first and 'v' in the second"):
        compare.compare(centered, varied, ROWS)
    assert compare.compare(one, varied, ROWS)["vqa_flexibility"].cases == 1  # of an older version


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


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schema": 99}, r"is of another version of rbjax \(schema 99\)"),
        ({"schema": "2"}, "is of another version"),
        ({"scored": []}, "is damaged: AttributeError"),
        ({"scored": {"trained": [3]}}, "is damaged: TypeError"),
        ({"scored": {"trained": [{"character": 1}]}}, "is damaged: KeyError: 'references'"),
        ({"scored": results(["x"])["scored"]}, "row 'trained', image 0: vqa_flexibility is no"),
        ({"scored": results([0, np.nan])["scored"]}, "image 1: vqa_flexibility is no finite"),
        ({"nearest": results([], hits=[True])["nearest"]}, "nearest by pixels is of other images"),
    ],
)
def test_damaged_results_are_named(tmp_path, change, message):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results([0.1, 0.2], hits=[True, False]) | change))
    with pytest.raises(ValueError, match=f"{path} is.*{message.removeprefix('is ')}"):
        compare.read(tmp_path)
