"""Diversity: closed forms, and its expectation."""

import itertools
import math

import numpy as np
import pytest

from rbjax.metrics import diversity


def test_difference_counts_pairs():
    assert diversity.difference(["a", "a", "b"]) == pytest.approx(2 / 3)
    assert diversity.difference(["a", "a"]) == 0
    assert math.isnan(diversity.difference(["a"]))


@pytest.mark.parametrize("p, q", [([0.5, 0.5], [0.5, 0.5]), ([0.9, 0.1], [0.3, 0.7])])
def test_the_distance_is_unbiased_for_three_and_two_images(p, q):
    """Over all samples, by their probability, it is the squared distance of p and q."""
    expected = 0.0
    for drawn in itertools.product(range(2), repeat=5):
        generated, real = drawn[:3], drawn[3:]
        chance = math.prod([p[v] for v in generated] + [q[v] for v in real])
        expected += chance * diversity.distance(generated, real)
    np.testing.assert_allclose(expected, np.sum((np.array(p) - q) ** 2), atol=1e-12)


def test_one_real_image_again_and_again_scores_zero_on_average():
    real = ["a", "b", "c", "d"]
    scores = [diversity.seed_diversity([([v] * 3, real * 50)]) for v in real]
    np.testing.assert_allclose(np.mean(scores), 0, atol=0.02)


def test_answers_at_random_are_not_preferred_to_those_of_the_subject():
    real = ["smile"] * 18 + ["frown"] * 2
    uniform = ["smile", "frown", "pout", "grin"] * 5
    assert diversity.seed_diversity([(real, real)]) > 0.9
    assert diversity.seed_diversity([(uniform, real)]) < 0
    assert diversity.seed_diversity([(["pout"] * 20, real)]) < -1


def test_nothing_to_compare_has_no_score():
    assert math.isnan(diversity.seed_diversity([]))
    assert math.isnan(diversity.seed_diversity([(["a"], ["a", "b"])]))
    assert math.isnan(diversity.seed_diversity([(["a", "a"], ["b", "b"])]))
