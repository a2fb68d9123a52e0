"""Bootstrap intervals: against scipy and numpy, and where they are known."""

import numpy as np
import pytest
import scipy.stats

from rbjax.metrics import bootstrap


def test_the_interval_equals_that_of_scipy():
    values = np.random.default_rng(0).beta(5, 2, size=60)
    mean, low, high = bootstrap.interval(values, seed=1, resamples=20_000)
    oracle = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    )
    assert mean == values.mean()
    np.testing.assert_allclose((low, high), oracle.confidence_interval, atol=2e-3)


def test_the_interval_holds_the_middle_of_the_resampled_means():
    values = np.random.default_rng(0).beta(5, 2, size=60)
    _, low, high = bootstrap.interval(values, seed=1, resamples=20_000, confidence=0.8)
    drawn = np.random.default_rng(2).choice(values, size=(20_000, 60)).mean(axis=1)
    np.testing.assert_allclose((low, high), np.percentile(drawn, [10, 90]), atol=2e-3)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    bounds = [
        bootstrap.interval(rng.normal(size=50), seed=seed, resamples=500)[1:] for seed in range(300)
    ]
    assert 0.90 < np.mean([low < 0 < high for low, high in bounds]) < 0.98


def test_equal_values_leave_no_doubt():
    assert bootstrap.interval(np.full(7, 0.25), seed=0) == (0.25, 0.25, 0.25)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[0.3], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_without_spread_the_interval_is_the_mean(values):
    np.testing.assert_allclose(bootstrap.interval(np.array(values), seed=0), values[0])


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap.interval(values, seed=3) == bootstrap.interval(values, seed=3)
    assert bootstrap.interval(values, seed=3) != bootstrap.interval(values, seed=4)


@pytest.mark.parametrize("values", [[], [0.5, np.nan], [[1.0]]])
def test_missing_values_are_refused(values):
    with pytest.raises(ValueError, match="finite values"):
        bootstrap.interval(np.array(values), seed=0)
