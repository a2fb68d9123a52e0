"""Systems and columns, with a VQA model that is never wrong: values are known."""

import json

import numpy as np
import pytest

from rbjax.evaluation import baselines, scoring
from rbjax.evaluation import results as results_lib
from rbjax.evaluation import suite as suite_lib
from tests.helpers.evaluation_world import NAMES, ReadingVQA, vocabulary


@pytest.fixture
def suite(world):
    return suite_lib.build(world.clusters, world.tags, vocabulary(), characters=12, per_character=4)


@pytest.fixture
def results(world, suite, vqa):
    return world.evaluate(suite, vqa, resamples=200)


def mean(results, row, column):
    return results["rows"][row][column]["mean"]


def test_an_obedient_model_is_perfect(results):
    for column in ("vqa_flexibility", "outfit_agreement", "identity_agreement"):
        assert results["rows"]["trained"][column] == {"mean": 1, "low": 1, "high": 1}
    assert mean(results, "trained", "leakage") == 0


def test_copying_a_reference_leaks_everything(results):
    assert mean(results, "copy_reference", "leakage") == 1
    assert mean(results, "copy_reference", "vqa_flexibility") == 0
    assert mean(results, "copy_reference", "outfit_agreement") == 1
    assert mean(results, "copy_reference", "identity_agreement") == 1


def test_without_references_the_prompt_alone_is_obeyed(results):
    assert mean(results, "references_blanked", "vqa_flexibility") == 1
    assert mean(results, "references_blanked", "outfit_agreement") == 0
    assert mean(results, "references_blanked", "identity_agreement") == 0


def test_another_characters_references_agree_only_by_chance(world, suite, results):
    cases = suite.cases
    chance = [
        np.mean(
            [
                world.answers[case.references[-1]][name]
                == world.answers[other.references[-1]][name]
                for name in ("clothing", "clothing_color")
            ]
        )
        for case, other in zip(cases, baselines.other_characters(cases), strict=True)
    ]
    np.testing.assert_allclose(
        mean(results, "other_references", "outfit_agreement"), np.mean(chance)
    )
    assert mean(results, "other_references", "vqa_flexibility") == 1


def test_real_images_are_scored_by_their_own_tags(results):
    for column in ("vqa_flexibility", "outfit_agreement", "identity_agreement"):
        assert mean(results, "real_images", column) == 1
    assert results["images"]["real_images"] == 24
    assert mean(results, "real_images", "leakage") == 0


def test_p_yes_is_the_product_over_phrases(suite, results):
    per_case = [0.9 ** (len(case.prompt) - 1) for case in suite.cases]
    np.testing.assert_allclose(mean(results, "trained", "p_yes"), np.mean(per_case))


def test_diversity_is_the_share_of_pairs_that_differ(world, suite, vqa):
    def stubborn(cases):  # two of four images of a character obey
        images = world.generate(cases)
        images[2::4], images[3::4] = images[1::4], images[1::4]
        return images

    scored = world.evaluate(suite, vqa, ("trained",), generate=stubborn, resamples=10)
    first = suite.cases[:4]
    assert len({case.prompt[1] for case in first[:2]}) == 2
    np.testing.assert_allclose(mean(scored, "trained", "vqa_diversity"), 0.5)  # 3 pairs of 6


def test_only_what_the_model_is_reliable_for_is_asked(world, suite):
    few = ReadingVQA(("clothing", "mouth"))
    scored = world.evaluate(suite, few, ("trained",))
    assert scored["asked"] == ["clothing", "mouth"]
    assert set(scored["attributes"]["trained"]) == {"clothing", "mouth"}
    assert scored["rows"]["trained"]["identity_agreement"] is None
    np.testing.assert_allclose(mean(scored, "trained", "p_yes"), 0.9)


def test_everything_is_asked_of_a_model_of_unknown_accuracy(world, suite, vqa, monkeypatch):
    wanted = world.evaluate(suite, vqa, ("trained",))
    monkeypatch.setattr(vqa, "asked_at", lambda size: None)
    monkeypatch.setattr(vqa, "phrases_at", lambda size: None)
    assert world.evaluate(suite, vqa, ("trained",)) == wanted
    assert wanted["asked"] == wanted["phrases"] == sorted(NAMES)


def test_p_yes_leaves_out_phrases_that_are_not_reliable(world, suite):
    scored = world.evaluate(suite, ReadingVQA(phrases=()), ("trained",))
    assert scored["rows"]["trained"]["p_yes"] is None
    assert scored["rows"]["trained"]["vqa_flexibility"]["mean"] == 1


def test_the_share_of_every_attribute_is_reported(results):
    attributes = results["attributes"]["references_blanked"]
    assert set(attributes) == set(NAMES)
    assert attributes["mouth"] == {"kind": "free", "share": 1.0}
    assert attributes["hair"] == {"kind": "identity", "share": 0.0}


def test_an_entire_image_decides_the_identity_but_no_outfit(world, vqa):
    entire = suite_lib.build(
        world.clusters, world.tags, vocabulary(), characters=12, composition=False
    )
    scored = world.evaluate(entire, vqa, ("real_images",))
    assert mean(scored, "real_images", "identity_agreement") == 1
    assert scored["rows"]["real_images"]["outfit_agreement"] is None


def test_results_are_json_with_stable_keys(results):
    read = json.loads(json.dumps(results))
    assert read == results
    assert tuple(read["rows"]) == baselines.SYSTEMS
    assert all(tuple(columns) == results_lib.COLUMNS for columns in read["rows"].values())
    assert (read["schema"], read["size"], read["characters"], read["cases"]) == (1, 10, 12, 48)


def test_the_table_has_a_line_for_every_row(results):
    lines = results_lib.table(results).split("\n")
    assert len(lines) == 2 + 5 and len(set(map(len, lines))) == 1
    assert "references blanked" in lines[3] and "100.0 [100.0, 100.0]" in lines[3]
    nothing = {**results, "rows": {"trained": dict.fromkeys(results_lib.COLUMNS)}}
    assert results_lib.table(nothing).count("–") == 6


def test_impossible_systems_are_refused(world, vqa):
    one = suite_lib.build(world.clusters, world.tags, vocabulary(), characters=1)
    with pytest.raises(ValueError, match="unknown systems"):
        baselines.collect(world.generate, one, read_images=world.images, systems=("perfect",))
    with pytest.raises(ValueError, match="two characters"):
        baselines.collect(
            world.generate, one, read_images=world.images, systems=("other_references",)
        )
    with pytest.raises(ValueError, match="no images"):
        scoring.score({}, one, vqa, read_images=world.images)


def test_scores_have_all_columns_and_no_other():
    columns = dict.fromkeys(results_lib.COLUMNS, ())
    scoring.SystemScores(columns, {})
    with pytest.raises(ValueError, match="p_yess.*COLUMNS"):
        scoring.SystemScores({**columns, "p_yess": ()}, {})


def test_without_a_model_nothing_is_scored(world, suite):
    results = world.evaluate(suite, None)
    assert results["asked"] == results["phrases"] == []
    assert all(value is None for columns in results["rows"].values() for value in columns.values())
    assert results["attributes"] == {name: {} for name in baselines.SYSTEMS}
    assert results["images"]["trained"] == 48
