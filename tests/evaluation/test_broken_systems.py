"""Systems that are broken by construction: every column tells them from one that obeys."""

import dataclasses
import json

import numpy as np
import pytest

from rbjax.evaluation import baselines, other_measures, scoring
from rbjax.evaluation import results as results_lib
from rbjax.evaluation import suite as suite_lib
from rbjax.evaluation.asking import Asker
from rbjax.text.concepts import FACE
from tests.helpers.evaluation_world import NAMES, SIZE, VALUES, ReadingVQA, draw_image, vocabulary


@pytest.fixture
def suite(world):
    return suite_lib.build(
        world.clusters, world.tags, vocabulary(), characters=12, per_character=4, open_characters=12
    )


@pytest.fixture
def results(world, suite, vqa):
    return world.evaluate(suite, vqa, resamples=20)


@pytest.fixture
def trained(world, suite, vqa):
    """Scores an obedient model's images that a test changes."""

    def score(change, judge=vqa):
        return world.evaluate(
            suite, judge, ("trained",), generate=lambda cases: change(world.generate(cases))
        )

    return score


def mean(results, row, column):
    return results["rows"][row][column]["mean"]


def set_values(images, names, draw):
    for name in names:
        values = draw(len(VALUES[name][1]), len(images))
        images[:, NAMES.index(name)] = values[:, None, None] / 16
    return images


def at_random(names, seed=1):
    rng = np.random.default_rng(seed)
    return lambda images: set_values(images, names, lambda v, n: 1 + rng.integers(v, size=n))


def test_wrong_eyes_cost_the_eyes_share_of_flexibility(trained, suite):
    def change(images):
        row = images[:, NAMES.index("eyes")]
        shown = np.round(row * 16)
        images[:, NAMES.index("eyes")] = np.where(shown > 0, shown % 6 + 1, 0) / 16
        return images

    scored = trained(change)
    shares = [
        1 - any(tag.endswith(" eyes") for tag in case.prompt) / (len(case.prompt) - 1)
        for case in suite.cases
        if not case.is_open
    ]
    np.testing.assert_allclose(mean(scored, "trained", "vqa_flexibility"), np.mean(shares))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_have_no_score_and_are_counted(trained, value):
    scored = trained(lambda images: np.full_like(images, value))
    assert set(scored["rows"]["trained"].values()) == {None}
    assert scored["unscored"]["trained"] == {"image is not finite": 96}
    assert scored["attributes"]["trained"] == scored["confusion"]["trained"] == {}
    *_, line = results_lib.table(scored).split("\n")
    assert line.count("–") == len(results_lib.COLUMNS) and "96" in line


def test_one_image_that_is_not_finite_is_left_out_and_named(trained):
    def change(images):
        images[1] = np.nan
        return images

    scored = trained(change)
    assert scored["rows"]["trained"]["vqa_flexibility"]["unscored"] == 1
    assert mean(scored, "trained", "vqa_flexibility") == 1
    record = scored["scored"]["trained"][1]
    assert record["prompt"] and record["fault"] == "image is not finite"
    assert set(record["columns"].values()) == {None}


def test_a_missing_image_is_named_by_its_reason(world, suite, vqa):
    images = baselines.SystemImages(world.generate(suite.cases), suite.cases, {0: "missing"})
    scored = scoring.score({"trained": images}, suite, vqa, read_images=world.images, resamples=20)
    assert scored["unscored"]["trained"] == {"missing": 1}


def test_images_that_cannot_be_scored_are_counted_where_nothing_is_asked(world, suite):
    images = world.generate(suite.cases)
    images[2] = np.nan
    system = baselines.SystemImages(images, suite.cases, {0: "missing"})
    scored = scoring.score({"ours": system}, suite, None, read_images=world.images)
    assert scored["unscored"]["ours"] == {"image is not finite": 1, "missing": 1}
    faults = [record["fault"] for record in scored["scored"]["ours"]]
    assert faults[:4] == ["missing", "", "image is not finite", ""]
    assert results_lib.unscored_images(scored, "ours") == 2


@pytest.mark.parametrize("answer", ["", "...", "[UNK]"])
def test_an_answer_that_is_no_word_is_never_right_and_never_obedient(trained, answer):
    scored = trained(np.zeros_like, ReadingVQA(nothing=answer))
    row = scored["rows"]["trained"]
    assert row["vqa_flexibility"]["mean"] == row["outfit_agreement"]["mean"] == 0
    assert row["leakage"] is None
    assert scored["unscored"]["trained"]["answer is no word"] > 96


def test_references_about_which_there_is_no_word_expect_nothing(world, suite, monkeypatch):
    pairs = (
        (p, c) for case in suite.cases for p, c in zip(case.references, case.concepts, strict=True)
    )
    faces, original = {p for p, concept in pairs if concept == FACE}, world.images

    def without_faces(positions):
        images = original(positions)
        return images * np.array([p not in faces for p in positions])[:, None, None, None]

    monkeypatch.setattr(world, "images", without_faces)
    scored = world.evaluate(suite, ReadingVQA(nothing="?"), ("trained", "copy_reference"))
    assert scored["rows"]["copy_reference"]["identity_agreement"] is None
    assert scored["real_no_words"] > 0


def test_a_prompt_without_a_phrase_has_no_score(world, suite, vqa):
    cases = tuple(dataclasses.replace(case, prompt=("solo",)) for case in suite.cases)
    scored = world.evaluate(dataclasses.replace(suite, cases=cases), vqa, ("trained",))
    row = scored["rows"]["trained"]
    assert row["p_yes"] is row["vqa_flexibility"] is None
    assert scored["unscored"]["trained"] == {"prompt without a phrase": 96}


def test_phrases_are_asked_once_and_in_words(world, suite, monkeypatch):
    asked = []

    def record(images, phrases):
        asked.extend(phrases)
        return [np.full(len(row), 0.5) for row in phrases]

    vqa = ReadingVQA()
    monkeypatch.setattr(vqa, "probability_yes", record)
    prompt = ("solo", "open_eyes", "Red background", "open_eyes", *["smile"] * 9)
    cases = tuple(dataclasses.replace(case, prompt=prompt) for case in suite.cases)
    scored = world.evaluate(dataclasses.replace(suite, cases=cases), vqa, ("constant",))
    assert asked[0] == ["open eyes", "red background", "smile"]
    first = scored["scored"]["constant"][0]
    assert list(first["phrases"]) == ["open_eyes", "Red background", "smile"]
    assert mean(scored, "constant", "p_yes") == 0.5**3


def test_a_phrase_that_cannot_be_asked_is_left_out_and_named(world, suite, capsys):
    prompts = [
        ("solo", "smile", "^_^", "a_girl_standing_in_a_green_park", "Cat_ears"),
        ("solo", "hand_on_another's_head"),
        ("solo", "open_eyes"),
    ]
    cases = tuple(
        dataclasses.replace(case, prompt=prompts[number % 3])
        for number, case in enumerate(suite.cases)
    )
    suite = dataclasses.replace(suite, cases=cases)

    def smiling(cases):
        return np.stack([draw_image({"mouth": "smile"}) for _ in cases])

    scored = world.evaluate(
        suite, ReadingVQA(words=5, unknown=["cat ears"]), ("trained",), generate=smiling
    )
    some, none, every = scored["scored"]["trained"][:3]
    assert some["phrases"] == {"smile": 0.9} and some["columns"]["p_yes"] == 0.9
    assert some["unasked"] == ["^_^", "a_girl_standing_in_a_green_park", "Cat_ears"]
    assert none["phrases"] == {} and none["columns"]["p_yes"] is None
    assert none["unasked"] == ["hand_on_another's_head"] and every["unasked"] == []
    assert scored["unscored"]["trained"] == {"phrase that cannot be asked": 128}
    other_measures.show({**scored, "similarity": None, "nearest": None})
    assert "P(yes) is without 4 phrases" in capsys.readouterr().out


def test_a_judge_that_says_no_word_is_an_error(world, suite, monkeypatch):
    monkeypatch.setattr(world, "images", lambda positions: np.zeros((len(positions), 10, 10, 3)))
    with pytest.raises(ValueError, match="answers none of [0-9]+ questions about real images"):
        world.evaluate(suite, ReadingVQA(nothing="?"), ("trained",))


# --- leakage and its chance level


def test_leakage_of_answers_at_random_is_the_chance_level(trained):
    names = ("eyes", "mouth", "background", "clothing", "clothing_color")
    scored = [trained(at_random(names, seed))["rows"]["trained"]["leakage"] for seed in range(5)]
    means, chances = ([leak[key] for leak in scored] for key in ("mean", "chance"))
    assert np.mean(chances) > 0.1 and abs(np.mean(means) - np.mean(chances)) < 0.03


def test_clothes_of_the_face_reference_leak(world, suite, vqa):
    def generate(cases):  # wears what the face's image shows
        images = world.generate(cases)
        faces = world.images([case.references[0] for case in cases])
        for name in ("clothing", "clothing_color"):
            images[:, NAMES.index(name)] = faces[:, NAMES.index(name)]
        return images

    scored = world.evaluate(suite, vqa, ("trained",), generate=generate)
    assert scored["rows"]["trained"]["leakage"]["mean"] > 0.3  # an obedient model's is 0


def test_a_reference_that_shows_what_the_prompt_asks_for_leaks_nothing(world, vqa):
    """Whatever the model answers about it: here it misreads all expressions of references."""
    suite = suite_lib.build(world.clusters, world.tags, vocabulary(), characters=3)
    asker = Asker.create(suite, vqa, read_images=world.images, size=SIZE)
    wrong = {p: answers | {"mouth": "misread"} for p, answers in asker.real_answers.items()}
    asker = dataclasses.replace(asker, real_answers=wrong)
    case = suite.cases[0]
    own = world.answers[case.references[0]]["mouth"]
    case = dataclasses.replace(case, references=case.references[:1], concepts=case.concepts[:1])
    for mouth in VALUES["mouth"][1]:
        unwanted = asker.unwanted_answers(dataclasses.replace(case, prompt=("solo", mouth)))
        assert unwanted.get("mouth") == (None if mouth == own else ["misread"])


# --- diversity


def test_seed_diversity_is_that_of_real_images_of_the_character(trained, results):
    varied = trained(at_random(("eyes", "mouth", "background")))
    assert abs(mean(varied, "trained", "seed_diversity") - 1) < 0.15
    assert abs(mean(results, "real_images", "seed_diversity") - 1) < 0.15


@pytest.mark.parametrize("row", ["trained", "constant", "mean", "paste"])
def test_one_image_for_every_seed_has_no_diversity(results, row):
    """The obedient model draws nothing of what an empty prompt leaves open."""
    assert mean(results, row, "seed_diversity") < 0.2
    assert mean(results, row, "swd") == 0


def test_copying_has_no_diversity(results):
    assert abs(mean(results, "copy_reference", "seed_diversity")) < 0.4
    assert mean(results, "copy_reference", "swd") == 0


def test_one_real_image_again_and_again_has_no_diversity(world, suite, vqa):
    first = {case.character: case.real for case in reversed(suite.cases) if case.is_open}

    def one(cases):
        return world.images([first[case.character] for case in cases])

    scored = world.evaluate(suite, vqa, ("trained",), generate=one)
    assert abs(mean(scored, "trained", "seed_diversity")) < 0.4
    assert mean(scored, "trained", "swd") == 0


def test_different_prompts_are_no_diversity(world, vqa):
    suite = suite_lib.build(world.clusters, world.tags, vocabulary(), characters=12)
    row = world.evaluate(suite, vqa, ("trained",))["rows"]["trained"]
    assert row["seed_diversity"] is row["swd"] is None


# --- seeds, rows without a model, controls


def test_the_mean_of_every_sampling_seed_is_kept(world, vqa):
    suite = suite_lib.build(world.clusters, world.tags, vocabulary(), characters=6, repeats=3)
    assert len({case.seed for case in suite.cases}) == len(suite.cases) == 6 * 4 * 3

    def generate(cases):
        images = world.generate(cases)
        images[np.array([case.repeat == 2 for case in cases])] = 0
        return images

    scored = world.evaluate(suite, vqa, ("trained", "real_images"), generate=generate)
    assert scored["rows"]["trained"]["vqa_flexibility"]["seeds"] == [1, 1, 0]
    assert scored["images"]["real_images"] == 6 * 2  # does not depend on the seed


def test_pasting_shows_face_and_clothes_but_not_the_prompt(results):
    assert mean(results, "paste", "outfit_agreement") == 1
    assert mean(results, "paste", "identity_agreement") == 1
    assert mean(results, "paste", "vqa_flexibility") < 0.1


def test_the_nearest_training_image_is_the_best_of_what_there_is(results):
    assert mean(results, "nearest_training", "identity_agreement") > 0.8  # all is in training here
    assert mean(results, "nearest_training", "outfit_agreement") > 0.8
    assert mean(results, "nearest_training", "vqa_flexibility") < 1


@pytest.mark.parametrize("control", baselines.CONTROLS)
def test_controls_score_badly(results, control):
    columns = ("vqa_flexibility", "p_yes", "outfit_agreement", "identity_agreement")
    for column in columns:
        assert mean(results, control, column) < 0.5 * mean(results, "trained", column)
    assert mean(results, control, "swd") < 0.1


def test_columns_can_be_computed_again_from_what_is_stored(results):
    read = json.loads(json.dumps(results))
    for row, records in read["scored"].items():
        by_character = {}
        for record in records:
            asked = record["expected"]["free"]
            if record["prompt"] and asked and not record["fault"]:
                right = np.mean([record["given"][name] == text for name, text in asked.items()])
                by_character.setdefault(record["character"], []).append(right)
        again = np.mean([np.mean(values) for values in by_character.values()])
        np.testing.assert_allclose(again, mean(read, row, "vqa_flexibility"))
