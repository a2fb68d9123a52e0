"""Which questions a prompt asks."""

import pytest

from rbjax.metrics import questions
from rbjax.metrics.questions import Question

VOCABULARY = {
    "tags": {
        "red hair": {"attribute": "hair_color", "answer": "red", "kind": "identity"},
        "smile": {"attribute": "mouth", "answer": "smile", "kind": "free"},
    },
    "questions": {"hair_color": "what color is the hair?", "mouth": "what is the mouth doing?"},
}
ASK = {"hair_color": [32, 48], "mouth": [48]}


def test_each_known_tag_asks_one_question_in_the_order_of_the_prompt():
    asked = questions.from_prompt(["solo", "smile", "red hair"], VOCABULARY, 48, ASK)
    assert asked == [
        Question("mouth", "what is the mouth doing?", "smile"),
        Question("hair_color", "what color is the hair?", "red"),
    ]


def test_a_size_between_two_counts_as_the_smaller():
    tags = ["smile", "red hair"]
    assert [q.attribute for q in questions.from_prompt(tags, VOCABULARY, 47, ASK)] == ["hair_color"]
    assert questions.phrases_from_prompt(tags, VOCABULARY, 47, ASK) == ["red hair"]
    assert questions.asked_at(1024, ASK) == {"hair_color", "mouth"}


def test_a_size_below_all_is_an_error():
    with pytest.raises(ValueError, match="16 px"):
        questions.from_prompt(["smile"], VOCABULARY, 16, ASK)


def test_phrases_become_yes_no_questions():
    assert questions.yes_or_no("red hair") == "is there red hair?"
