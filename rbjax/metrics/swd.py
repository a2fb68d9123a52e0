"""Similarity weighted diversity (SWD): a family of metrics (paper, v2 and v3; formula ours).

With similarities s_i in [0, 1] of K images to the references that all were made from, and
differences d_ij in [0, 1] between them,

    SWD_a = mean over pairs i < j of (s_i s_j)^a d_ij .

Copying (all d are 0) and ignoring the references (all s are 0) both score 0, and it never falls
when a similarity or a difference rises. `a` says how much similarity counts: 0 leaves the plain
diversity.
"""

import numpy as np


def similarity_weighted_diversity(
    similarities: np.ndarray, differences: np.ndarray, exponent: float = 1.0
) -> float:
    """Returns SWD_a, 0 to 1.

    Args:
        similarities: [K] in [0, 1].
        differences: [K, K] in [0, 1], symmetric.
        exponent: a, at least 0.

    Raises:
        ValueError: fewer than two images, or a value outside of [0, 1].
    """
    similarities, differences = np.asarray(similarities), np.asarray(differences)
    inside = all(((0 <= x) & (x <= 1)).all() for x in (similarities, differences))
    if len(similarities) < 2 or exponent < 0 or not inside:
        raise ValueError(
            "SWD needs two images or more, similarities and differences in [0, 1] and an exponent "
            f"of at least 0; got {len(similarities)} images, exponent {exponent}."
        )
    first, second = np.triu_indices(len(similarities), k=1)
    weights = (similarities[first] * similarities[second]) ** exponent
    return float(np.mean(weights * differences[first, second]))
