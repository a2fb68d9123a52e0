"""The formulas on cases that can be counted by hand."""

import math

import numpy as np
import pytest

from rbjax.metrics import vqa_score


@pytest.mark.parametrize(
    "answer, text",
    [
        ("Red", "red"),
        ("long_hair ", "long hair"),
        ("[UNK]", ""),
        ("red [UNK]", "red"),
        ("", ""),
        (" ?!", ""),
        ("2", "2"),
    ],
)
def test_answers_are_compared_as_words(answer, text):
    assert vqa_score.normalised(answer) == text


def test_agreement_is_the_share_of_equal_answers():
    wanted = {"eyes": "wide_eyes", "mouth": "smile", "hair": "?"}
    given = {"eyes": "Wide eyes", "mouth": "frown", "hair": "?"}
    assert vqa_score.agreement(given, wanted) == 0.5
    assert math.isnan(vqa_score.agreement(given, {"hair": "?"}))
    assert math.isnan(vqa_score.agreement({}, {}))
    assert vqa_score.agreement({"eyes": ""}, {"eyes": "open"}) == 0


def test_p_yes_is_a_product():
    assert vqa_score.probability_yes(np.array([0.5, 0.5, 0.8])) == pytest.approx(0.2)
    assert vqa_score.probability_yes(np.full(9, 0.9)) == pytest.approx(0.9**9)
    assert np.isnan(vqa_score.probability_yes(np.zeros(0)))
