"""The three properties of the family, and a value by hand."""

import numpy as np
import pytest

from rbjax.metrics.swd import similarity_weighted_diversity as swd

FAR = 1 - np.eye(3)


@pytest.mark.parametrize("exponent", [0.5, 1, 2])
def test_neither_copying_nor_ignoring_the_references_scores(exponent):
    assert swd(np.ones(3), np.zeros((3, 3)), exponent) == 0
    assert swd(np.zeros(3), FAR, exponent) == 0
    assert swd(np.ones(3), FAR, exponent) == 1


@pytest.mark.parametrize("exponent", [0, 0.5, 1, 2])
def test_it_never_falls_when_a_similarity_or_a_difference_rises(exponent):
    rng = np.random.default_rng(0)
    for _ in range(50):
        s, d = rng.uniform(size=3) * 0.9, rng.uniform(size=(3, 3)) * 0.9
        d = (d + d.T) / 2
        before = swd(s, d, exponent)
        assert swd(s + 0.1 * np.eye(3)[0], d, exponent) >= before
        assert swd(s, d + 0.1, exponent) >= before


def test_a_value_by_hand():
    differences = np.array([[0, 0.5, 1], [0.5, 0, 0], [1, 0, 0]])
    assert swd(np.array([1, 0.5, 0.2]), differences) == pytest.approx((0.25 + 0.2) / 3)
    assert swd(np.array([1, 0.5, 0.2]), differences, 0) == pytest.approx(0.5)


@pytest.mark.parametrize("s, d", [([1.0], [[0.0]]), ([1.0, 1.2], np.zeros((2, 2)))])
def test_what_is_no_similarity_is_refused(s, d):
    with pytest.raises(ValueError, match="SWD needs"):
        swd(np.array(s), np.array(d))
