"""Which VQA model is asked what about which data, and what is said of it."""

import json
import shutil
import types

import numpy as np
import pytest

from rbjax.data import dataset
from rbjax.evaluation import judging
from rbjax.vqa.model import VQA
from tests.helpers import blip_folder
from tfds_retribooru.avatars import attributes

HAIR = "what color is the hair?"


@pytest.fixture(scope="module")
def open_split(avatars):
    return lambda name: dataset.open_split(avatars, name)


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip")
    blip_folder.make(folder)
    return folder


def create(open_split, folder="", *, size=48, split=None, **changes):
    return judging.create(
        str(folder),
        split or open_split("test"),
        open_split,
        names=["train", "validation", "test"],
        size=size,
        **changes,
    )


def test_the_packaged_model_is_asked_what_its_own_accuracy_says(open_split, capsys):
    made = create(open_split)
    assert "hair" in made.vqa.asked_at(48)
    assert made.record["measured"] is None
    assert made.vocabulary["questions"] == attributes.vocabulary()["questions"]
    assert not capsys.readouterr().out


def test_images_that_are_too_small_are_refused_before_anything_trains(open_split):
    with pytest.raises(ValueError, match="No question can be asked of images of 12 px"):
        create(open_split, size=12)


def test_another_model_is_measured_on_validation_once(open_split, blip, monkeypatch, capsys):
    calls = []

    def answers(self, images, questions):
        calls.append(len(images))
        return [["red"] * len(row) for row in questions]

    monkeypatch.setattr(VQA, "answers", answers)
    made = create(open_split, blip)
    assert made.vqa is None  # always the same answer is reliable for nothing
    assert made.record["split"] == "validation" and made.record["folder"] == blip.name
    agreement = {name: found["agreement"] for name, found in made.record["measured"].items()}
    assert "background" in agreement and max(agreement.values()) <= 0.5
    text = capsys.readouterr().out
    assert "none. Nothing is asked; images are compared, not scored." in text
    before = len(calls)
    assert create(open_split, blip).record == made.record and len(calls) == before > 0
    create(open_split, blip, size=32)
    assert len(calls) > before


def test_a_model_of_a_data_sets_tags_is_measured_on_data_with_questions(
    open_split, blip, tmp_path, monkeypatch
):
    """Its accuracy.json says what it knows of the rules' questions, and nothing of these."""
    folder = shutil.copytree(blip, tmp_path / "judge")
    known = {"asked": {}, "phrases": {}, "measured": {"smile": {"agreement": 1.0, "answers": {}}}}
    (folder / "accuracy.json").write_text(json.dumps(known))
    monkeypatch.setattr(VQA, "answers", lambda self, images, rows: [["x"] * len(r) for r in rows])
    record = create(open_split, folder).record
    assert record["split"] == "validation" and "background" in record["measured"]


def test_models_in_a_hub_cache_have_measurements_of_their_own(
    open_split, blip, tmp_path, monkeypatch
):
    """Their folder holds blobs/, refs/ and snapshots/ alone."""
    read, records = [], []
    unknown = types.SimpleNamespace(accuracy=None, embed_images=None)
    monkeypatch.setattr(VQA, "load", lambda folder: unknown)
    monkeypatch.setattr(judging, "_measure", lambda vqa, path, *_, **__: read.append(path) or {})
    for name in ("a", "b"):
        folder = tmp_path / f"models--owner--{name}"
        shutil.copytree(blip, folder / "snapshots" / "0a1b")
        (folder / "snapshots" / "0a1b" / "notes.txt").write_text(name)
        records.append(create(open_split, folder).record)
        assert read[-1] == folder / "snapshots" / "0a1b"
    assert [record["folder"] for record in records] == ["models--owner--a", "models--owner--b"]
    assert records[0]["files"] != records[1]["files"]


def test_a_model_that_knows_the_answers_is_asked(open_split, blip, monkeypatch):
    split = open_split("validation")
    truth = {}
    for record, tags in zip(split.records, split.tags, strict=True):
        answers = {}
        for entry in (split.vocabulary["tags"].get(tag) for tag in tags):
            if entry:
                answers[split.vocabulary["questions"][entry["attribute"]]] = entry["answer"]
        key = _key(np.asarray(record["image"]))
        truth[key] = answers

    def answers(self, images, questions):
        return [
            [f"a {truth[_key(image)].get(q, '')}" if q != HAIR else "pink" for q in row]
            for image, row in zip(images, questions, strict=True)
        ]

    monkeypatch.setattr(VQA, "answers", answers)
    made = create(open_split, blip, size=128)
    names = set(made.record["measured"])
    assert made.vqa.asked_at(128) == names - {"hair_color"} and len(names) > 4


def _key(image):
    if image.dtype != np.uint8:
        image = np.round((image + 1) * 127.5)
    return image.astype(np.uint8)[::8, ::8].tobytes()


def test_data_without_questions_gets_them_from_its_tags(open_split, blip, monkeypatch, capsys):
    monkeypatch.setattr(VQA, "answers", lambda self, images, rows: [["x"] * len(r) for r in rows])
    test = open_split("test")
    bare = dataset.dataclasses.replace(test, vocabulary={**test.vocabulary, "questions": {}})
    made = create(open_split, blip, split=bare, more_tags=["red_skirt", "some_name"])
    assert made.vocabulary["questions"]["background color"] == "what color is the background?"
    assert made.vocabulary["tags"]["red_skirt"]["kind"] == "outfit"
    assert made.coverage["share"] > 0.85  # all but "solo", which avatars has no entry of
    assert made.coverage["uncovered"][0][0] == "solo"
    assert "Tags without a question: solo" in capsys.readouterr().out


def test_questions_that_the_model_cannot_read_are_not_asked(open_split, capsys):
    """The model that ships reads nine tokens; tags of real data make longer questions."""
    test = open_split("test")
    tags = dataset.dataclasses.replace(test, vocabulary={**test.vocabulary, "questions": {}})
    made = create(lambda name: tags, "", split=tags, more_tags=["gradient_background"])
    long = "does the color of the background change from one side to the other?"
    assert long in made.vocabulary["questions"].values()
    assert not VQA.load(judging.PACKAGED).can_read(long)
    names = {name for name, text in made.vocabulary["questions"].items() if text == long}
    assert not names & made.record["measured"].keys()
    assert "agrees with the tags in" in capsys.readouterr().out


def test_without_a_data_set_everything_is_asked_and_said_to_be_unmeasured(blip, capsys):
    made = judging.unmeasured(str(blip), ["red_hair", "smile", "x"])
    assert made.vqa.asked_at(10) == {"hair color", "smile"}
    assert made.record["measured"] is None
    assert "nothing is known of how reliable" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match="answers the questions of the data set that it was trained"
    ):
        judging.unmeasured("", ["smile"])


def test_vectors_of_images(blip):
    images = np.random.default_rng(0).uniform(-1, 1, (40, 8, 8, 3)).astype(np.float32)
    vqa = VQA.load(blip)
    vectors = vqa.embed_images(images)
    assert vectors.shape == (40, 24) and vectors.dtype == np.float32
    np.testing.assert_allclose(vqa.embed_images(images[33:35]), vectors[33:35], atol=1e-5)
    assert np.ptp(vectors, axis=0).min() > 1e-3
