"""Confidence intervals by the percentile bootstrap (Efron, 1979).

Images of one character are not independent, so a metric is first averaged within each character;
what is resampled are characters.
"""

import numpy as np
import scipy.stats

CONFIDENCE = 0.95


def interval(
    values: np.ndarray, *, seed: int, resamples: int = 2000, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Returns (mean, low, high) of the mean over characters.

    Args:
        values: one finite number a character [C]; a single one is its own interval.
        seed: of the resampling; the same seed gives the same interval.
        resamples: how many times C characters are drawn with replacement.
        confidence: share of the resampled means that lie between low and high.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"an interval needs finite values, one a character; got {values.shape} with "
            f"{np.count_nonzero(~np.isfinite(values))} that are not finite."
        )
    mean = float(values.mean())
    if values.size == 1:  # scipy refuses a single value
        return mean, mean, mean
    low, high = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return mean, float(low), float(high)
