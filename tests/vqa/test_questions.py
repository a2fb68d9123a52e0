"""What may be asked at a size."""

import pytest

from rbjax.vqa import questions

ASK = {"hair_color": [32, 48], "mouth": [48]}


def test_a_size_between_two_counts_as_the_smaller():
    assert questions.asked_at(47, ASK) == {"hair_color"}
    assert questions.asked_at(48, ASK) == questions.asked_at(1024, ASK) == {"hair_color", "mouth"}


def test_a_size_below_all_is_an_error():
    with pytest.raises(ValueError, match="16 px"):
        questions.asked_at(16, ASK)


def test_nothing_is_asked_of_a_model_that_is_good_at_nothing():
    assert questions.asked_at(16, {"mouth": []}) == set()


def test_phrases_become_yes_no_questions():
    assert questions.yes_or_no("red hair") == "is there red hair?"
