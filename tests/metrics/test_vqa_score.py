"""The formulas on cases that can be counted by hand."""

import numpy as np
import pytest

from rbjax.metrics import vqa_score


def test_flexibility_is_one_for_right_and_zero_for_unrelated_answers():
    wanted = np.eye(4)
    assert vqa_score.flexibility(wanted * 3, wanted) == pytest.approx(1)
    assert vqa_score.flexibility(np.roll(wanted, 1, axis=0), wanted) == pytest.approx(0)
    assert vqa_score.flexibility(wanted[[0, 0]], wanted[[0, 1]]) == pytest.approx(0.5)
    assert np.isnan(vqa_score.flexibility(np.zeros((0, 4)), np.zeros((0, 4))))


def test_cosine_with_zero_is_zero():
    assert vqa_score.cosine(np.zeros((1, 3)), np.ones((1, 3))) == 0


def test_diversity_counts_pairs_of_images():
    red, blue = np.eye(2)
    assert vqa_score.diversity(np.array([[red], [red], [red]])) == pytest.approx(0)
    assert vqa_score.diversity(np.array([[red], [red], [blue]])) == pytest.approx(2 / 3)
    assert vqa_score.diversity(np.array([[red, red], [red, blue]])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="pairs"):
        vqa_score.diversity(np.array([[red]]))


def test_p_yes_is_a_product():
    assert vqa_score.probability_yes(np.array([0.5, 0.5, 0.8])) == pytest.approx(0.2)
    assert np.isnan(vqa_score.probability_yes(np.zeros(0)))
