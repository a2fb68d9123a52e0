"""Systems and columns, with a VQA model that is never wrong: values are known."""

import json

import numpy as np
import pytest

from rbjax.evaluation import baselines, scoring
from rbjax.evaluation import results as results_lib
from rbjax.evaluation import suite as suite_lib
from rbjax.text.concepts import FACE
from tests.helpers.evaluation_world import NAMES, ReadingVQA, vocabulary


@pytest.fixture
def suite(world):
    return suite_lib.build(
        world.clusters, world.tags, vocabulary(), characters=12, per_character=4, open_characters=12
    )


@pytest.fixture
def results(world, suite, vqa):
    return world.evaluate(suite, vqa, resamples=200)


def mean(results, row, column):
    return results["rows"][row][column]["mean"]


def test_an_obedient_model_is_perfect(results):
    for column in ("vqa_flexibility", "outfit_agreement", "identity_agreement"):
        wanted = {"mean": 1, "low": 1, "high": 1, "seeds": [1], "unscored": 0}
        assert results["rows"]["trained"][column] == wanted
    assert mean(results, "trained", "leakage") == 0


def test_copying_a_reference_leaks_all_that_it_shows_beyond_its_concept(results):
    """What is copied is the clothes' image: its expression and background."""
    for record in results["scored"]["copy_reference"]:
        shown = {"eyes", "mouth", "background"} & record["unwanted"].keys()
        if record["prompt"]:
            assert all(record["given"][name] in record["unwanted"][name] for name in shown)
    assert mean(results, "copy_reference", "leakage") > 0.5
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
    assert results["images"]["real_images"] == 24 + 48  # two of a character's four prompts have one
    assert mean(results, "real_images", "leakage") == 0


def test_p_yes_is_the_product_over_phrases(suite, results):
    per_case = [0.9 ** (len(case.prompt) - 1) for case in suite.cases if not case.is_open]
    np.testing.assert_allclose(mean(results, "trained", "p_yes"), np.mean(per_case))


def test_only_what_the_model_is_reliable_for_is_asked(world, suite):
    few = ReadingVQA(("clothing", "mouth"))
    scored = world.evaluate(suite, few, ("trained",))
    assert scored["asked"] == ["clothing", "mouth"]
    assert set(scored["attributes"]["trained"]) == {"clothing", "mouth"}
    assert scored["rows"]["trained"]["identity_agreement"] is None


def test_everything_is_asked_of_a_model_of_unknown_accuracy(world, suite, vqa, monkeypatch):
    wanted = world.evaluate(suite, vqa, ("trained",))
    monkeypatch.setattr(vqa, "asked_at", lambda size: None)
    monkeypatch.setattr(vqa, "phrases_at", lambda size: None)
    assert world.evaluate(suite, vqa, ("trained",)) == wanted
    assert wanted["asked"] == wanted["phrases"] == sorted(NAMES)


def test_p_yes_is_of_all_phrases_reliable_or_not(world, suite, vqa):
    wanted = mean(world.evaluate(suite, vqa, ("trained",)), "trained", "p_yes")
    scored = world.evaluate(suite, ReadingVQA(phrases=["background"]), ("trained",))
    assert mean(scored, "trained", "p_yes") == wanted
    assert scored["phrases"] == ["background"]


class YesOrNo(ReadingVQA):
    """Says yes where an image is bright."""

    def asked_at(self, size):
        return None

    def answers(self, images, questions):
        replies = ["yes" if image.mean() > 0 else "no" for image in images]
        return [[reply] * len(row) for reply, row in zip(replies, questions, strict=True)]


def test_what_tags_only_say_yes_to_varies_where_some_images_have_the_tag():
    """Rules make such questions of most tags: an image without the tag is one that says no."""
    tags = {"smile": "yes", "hat": "yes", "red_background": "red", "blue_background": "blue"}
    names = {tag: "background" if "background" in tag else tag for tag in tags}
    entries = {
        tag: {"attribute": names[tag], "answer": answer, "kind": "free"}
        for tag, answer in tags.items()
    }
    questions = {name: f"what of the {name}?" for name in names.values()}
    case = suite_lib.Case(0, (0,), (FACE,), (), seed=0, real=None)
    suite = suite_lib.Suite(
        cases=(case,) * 4,
        tags={0: (), 1: ("smile", "red_background"), 2: (), 3: ("smile",), 4: ("solo",)},
        vocabulary={"tags": entries, "questions": questions},
        variety={0: (1, 2, 3, 4)},
    )

    def read(positions):
        return np.stack([np.full((4, 4, 3), (-1) ** (position + 1)) for position in positions])

    system = baselines.SystemImages(read([1, 2, 3, 4]).astype(np.float32), suite.cases)
    scored = scoring.score({"ours": system}, suite, YesOrNo(), read_images=read)
    assert scored["real_answers"]["2"] == {"smile": "no"} and scored["real_answers"]["0"] == {}
    varied = {"generated": {"no": 2, "yes": 2}, "real": {"no": 2, "yes": 2}}
    assert scored["variety"]["ours"] == {"smile": varied}
    assert mean(scored, "ours", "seed_diversity") > 1  # distributed alike


def test_the_share_of_every_attribute_is_reported(results):
    attributes = results["attributes"]["references_blanked"]
    assert set(attributes) == set(NAMES)
    assert attributes["mouth"] == {"kind": "free", "share": 1.0, "images": 48}
    assert attributes["hair"] == {"kind": "identity", "share": 0.0, "images": 96}


def test_an_entire_image_decides_the_identity_but_no_outfit(world, vqa):
    entire = suite_lib.build(
        world.clusters, world.tags, vocabulary(), characters=12, composition=False
    )
    scored = world.evaluate(entire, vqa, ("real_images",))
    assert mean(scored, "real_images", "identity_agreement") == 1
    assert scored["rows"]["real_images"]["outfit_agreement"] is None


def test_results_are_json_with_stable_keys(results):
    text = results_lib.dumps(results)
    read = json.loads(text)
    assert read == results and len(text.splitlines()) == len(results) + 2
    assert tuple(read["rows"]) == baselines.SYSTEMS
    assert all(tuple(columns) == results_lib.COLUMNS for columns in read["rows"].values())
    assert (read["schema"], read["size"], read["characters"], read["cases"]) == (2, 10, 12, 96)


def test_the_table_has_a_line_for_every_row(results):
    lines = results_lib.table(results).split("\n")
    assert len(lines) == 2 + len(baselines.SYSTEMS) and len(set(map(len, lines))) == 1
    assert "references blanked" in lines[3] and "100.0 [100.0, 100.0]" in lines[3]
    assert len(results_lib.table(results, ("trained", "paste")).split("\n")) == 4
    nothing = {**results, "rows": {"trained": dict.fromkeys(results_lib.COLUMNS)}}
    assert results_lib.table(nothing).count("–") == len(results_lib.COLUMNS)


def test_impossible_systems_are_refused(world, vqa):
    one = suite_lib.build(world.clusters, world.tags, vocabulary(), characters=1)
    with pytest.raises(ValueError, match="unknown systems"):
        baselines.collect(world.generate, one, world.real_data(), ("perfect",))
    with pytest.raises(ValueError, match="two characters"):
        baselines.collect(world.generate, one, world.real_data(), ("other_references",))
    with pytest.raises(ValueError, match="paste needs records"):
        baselines.collect(world.generate, one, baselines.RealData(world.images), ("paste",))
    with pytest.raises(ValueError, match="no images"):
        scoring.score({}, one, vqa, read_images=world.images)


def test_without_a_model_nothing_is_scored(world, suite):
    results = world.evaluate(suite, None)
    assert results["asked"] == results["phrases"] == []
    assert all(value is None for columns in results["rows"].values() for value in columns.values())
    assert results["attributes"] == {name: {} for name in baselines.SYSTEMS}
    assert results["images"]["trained"] == 96
