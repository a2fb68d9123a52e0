"""What a judge may be asked is measured on the data set's own images."""

import json

import numpy as np
import pytest

from rbjax.vqa import judge as judge_lib
from rbjax.vqa.judge import Judge, choose, fingerprint, kept, measure, table, taken
from rbjax.vqa.tag_questions import complete

COLOURS = ("red", "blue", "green")
TAGS = [
    ["1girl", f"{COLOURS[i % 3]}_hair", *(["smile"] if i % 2 else []), f"x_{i}"] for i in range(60)
]
VOCABULARY = complete(
    {
        "tags": {t: {"attribute": t, "answer": t, "kind": "free"} for row in TAGS for t in row},
        "questions": {},
    }
)
HAIR, SMILE = "what color is the hair?", "is the person smiling?"


class Model:
    """Answers by a function of (position, question); an image is its position."""

    def __init__(self, reply):
        self.reply = reply
        self.asked = 0

    def answers(self, images, questions):
        self.asked += sum(map(len, questions))
        return [
            [self.reply(int(image[0, 0, 0]), q) for q in row]
            for image, row in zip(images, questions, strict=True)
        ]


def read(positions):
    return np.broadcast_to(np.array(positions)[:, None, None, None], (len(positions), 2, 2, 3))


def truth(position, question):
    if question == HAIR:
        return COLOURS[position % 3]
    return "yes" if position % 2 else "no"


def agreements(reply):
    found = measure(Model(reply), VOCABULARY, TAGS, read)
    return {name: value["agreement"] for name, value in found.items()}


def test_agreement_is_the_mean_over_answers():
    assert agreements(truth) == {"hair color": 1.0, "smile": 1.0}
    assert agreements(lambda p, q: "red" if q == HAIR else "yes") == pytest.approx(
        {"hair color": 1 / 3, "smile": 1 / 2}
    )
    wrong = agreements(lambda p, q: truth(p + 1, q))
    assert wrong == {"hair color": 0.0, "smile": 0.0}


def test_answers_are_taken_as_the_rules_say():
    assert agreements(lambda p, q: f"a {truth(p, q).upper()}")["hair color"] == 1.0
    vocabulary = {"same": {HAIR: {"grey": "gray"}}}
    given = taken([["the  Grey", "grey", "a"]], [[HAIR, SMILE, SMILE]], vocabulary)
    assert given == [["gray", "grey", ""]]


def test_few_images_of_each_answer_are_asked_about_and_always_the_same():
    model = Model(truth)
    found = measure(model, VOCABULARY, TAGS, read)
    assert model.asked == 5 * judge_lib.PER_ANSWER
    assert found == measure(Model(truth), VOCABULARY, TAGS, read)
    assert found["smile"]["answers"] == {"no": [12, 12], "yes": [12, 12]}
    assert choose(VOCABULARY, TAGS, seed=1) != choose(VOCABULARY, TAGS, seed=2)


def test_what_all_images_show_tells_nothing_of_a_model():
    names = {sample.attribute for sample in choose(VOCABULARY, TAGS)}
    assert "number of girls" not in names  # all of them have one
    few = choose(VOCABULARY, TAGS[:9])
    assert {sample.attribute for sample in few} == {"smile"}  # three images of each colour


def test_a_judge_is_asked_what_it_is_reliable_for():
    measured = measure(
        Model(lambda p, q: "yes" if q == SMILE else truth(p, q)), VOCABULARY, TAGS, read
    )
    judge = Judge(Model(lambda p, q: "Blond"), VOCABULARY, measured)
    assert judge.asked_at(48) == judge.phrases_at(48) == {"hair color"}
    assert judge.answers(read([1]), [[HAIR, SMILE]]) == [["blonde", "blond"]]
    assert "| hair color | 100 | 36 | yes |\n| smile | 50 | 24 | no |" in table(measured)


def test_measurements_are_kept_beside_the_data_set(tmp_path, capsys):
    calls = []

    def make():
        calls.append(1)
        return {"smile": {"agreement": 0.5, "answers": {"yes": [1, 2]}}}

    first = kept(tmp_path, "k", make)
    assert kept(tmp_path, "k", make) == first and len(calls) == 1
    kept(tmp_path, "other", make)
    (tmp_path / "judge-k.json").write_text(json.dumps(first)[:20])
    assert kept(tmp_path, "k", make) == first and len(calls) == 3
    assert kept(tmp_path / "judge-k.json", "k", make) == first  # no folder
    assert "cannot be written" in capsys.readouterr().out


def test_the_key_depends_on_the_models_files_and_the_questions(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    (tmp_path / "notes.md").write_text("a")
    first = fingerprint(tmp_path, "data", 48)
    (tmp_path / "notes.md").write_text("b")
    assert fingerprint(tmp_path, "data", 48) == first != fingerprint(tmp_path, "data", 64)
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert fingerprint(tmp_path, "data", 48) != first


def test_a_folder_without_a_models_files_has_no_key(tmp_path):
    (tmp_path / "snapshots").mkdir()  # as a cache of the Hugging Face Hub
    with pytest.raises(ValueError, match="has no file of a model"):
        fingerprint(tmp_path)
