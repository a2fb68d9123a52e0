"""The copy-paste measure of MultiID-Bench (WithAnyone, arXiv 2510.14975), over any embedding.

With the angles between embeddings of the generated image g, its reference r and a real image t of
the same subject that is no reference ("target"):

    (angle(g, t) - angle(g, r)) / angle(t, r)

1: g is the reference. -1: g is the target. 0: g is as near to the one as to the other, as an image
of the subject that copies neither.
"""

import numpy as np

EPSILON = 1e-6  # of an angle, in radians


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the angles [...] between the rows of two arrays [..., D], 0 to pi; NaN for a zero."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        a = a / np.linalg.norm(a, axis=-1, keepdims=True)
        b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    # 2 arctan2 is exact for small angles, where arccos is not (Kahan)
    return 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))


def copy_paste(generated: np.ndarray, target: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns the measure [N], -1 to 1; NaN where target and reference do not differ.

    Args:
        generated: embeddings [N, D].
        target: likewise.
        reference: likewise.
    """
    between = angles(target, reference)
    difference = angles(generated, target) - angles(generated, reference)
    return np.where(between > EPSILON, difference / np.maximum(between, EPSILON), np.nan)
