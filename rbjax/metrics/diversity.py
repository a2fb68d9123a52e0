"""Diversity: do images of one subject vary as real images of it do? (ours)

The paper names a VQA diversity without a formula. Differences between images that were made from
different prompts say what the prompts ask for; so here the prompt is empty, the references stay,
and only the noise changes. What is left open then should vary as in the subject's real images:
neither less (one image again and again) nor more (answers at random).

For one attribute let p and q be the distributions of the answers about generated and real images.
Their squared distance sum_v (p_v - q_v)^2 = 2 P(g != r) - P(g != g') - P(r != r') is estimated
without bias from pairs of images, however few they are.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np


def difference(answers: Sequence[str]) -> float:
    """Returns the share of pairs of different images whose answers differ; NaN for less than 2."""
    if len(answers) < 2:
        return math.nan
    values = np.asarray(answers)
    first, second = np.triu_indices(len(values), k=1)
    return float(np.mean(values[first] != values[second]))


def distance(generated: Sequence[str], real: Sequence[str]) -> float:
    """Returns an unbiased estimate of the squared distance of two answer distributions.

    Args:
        generated: the answers about two images or more.
        real: likewise.

    Returns:
        0 on average for equal distributions (so it may be below 0), 2 at most; NaN for too few.
    """
    across = np.mean(np.asarray(generated)[:, None] != np.asarray(real)[None]) if real else math.nan
    return float(2 * across - difference(generated) - difference(real))


def seed_diversity(attributes: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Returns 1 - distance / difference(real), of the sums over attributes.

    1: images vary as the real ones do. 0: on average that of one real image again and again. Below
    0: constant answers that real images seldom have. Answers at random are below 1 too, unless the
    real images' are random.

    Args:
        attributes: for each attribute the answers about generated images and about real ones.

    Returns:
        NaN if there is no attribute with two answers each, or the real images never differ.
    """
    pairs = [(g, r) for g, r in attributes if len(g) > 1 and len(r) > 1]
    spread = sum(difference(real) for _, real in pairs)
    if not spread:
        return math.nan
    return 1 - sum(distance(generated, real) for generated, real in pairs) / spread
