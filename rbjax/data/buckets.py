"""Aspect-ratio buckets: a few shapes of one area, in which targets are shown without bars.

The rules are those of kohya's sd-scripts (`make_bucket_resolutions`, `BucketManager`), whose names
the fields of `config.data` have: bucket_reso_steps, min_bucket_reso and max_bucket_reso. An image
belongs to the shape of the nearest aspect ratio; it is resized to cover it, and cut at its centre.
"""

import numpy as np
from ml_collections import ConfigDict

Shape = tuple[int, int]  # width, height in pixels
PART = 2**16


def shapes(config: ConfigDict) -> list[Shape]:
    """Returns the shapes of `config.data`, sorted; a square alone without buckets."""
    side, step = config.size, config.bucket_reso_steps
    if not step:
        return [(side, side)]
    smallest, largest = config.min_bucket_reso, config.max_bucket_reso
    found = {(side // step * step,) * 2}
    for width in range(smallest, largest + 1, step):
        height = min(largest, side * side // width // step * step)
        if height >= smallest:
            found |= {(width, height), (height, width)}
    return sorted(found)


def assign(sizes: np.ndarray, choices: list[Shape], *, least: int = 1) -> np.ndarray:
    """Returns the shape of every image, int [N, 2] (width, height).

    Args:
        sizes: width and height of the images, [N, 2].
        choices: of `shapes`.
        least: a shape of fewer images gives them to the next nearest (ours: else a small data set
            would have shapes that fill no batch); the shape of the most images always stays.
    """
    ratios = sizes[:, 0] / sizes[:, 1]
    kept = np.array(choices, np.int32)
    while True:
        nearest = _nearest(ratios, kept[:, 0] / kept[:, 1])
        counts = np.bincount(nearest, minlength=len(kept))
        if len(kept) == 1 or counts.min() >= least:
            return kept[nearest]
        kept = np.delete(kept, counts.argmin(), axis=0)


def _nearest(values: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Returns the position of the choice that is nearest to each value, int16 [N]."""
    parts = np.array_split(values, len(values) // PART + 1)  # memory of a part, not of all
    return np.concatenate(
        [np.abs(part[:, None] - choices).argmin(axis=1).astype(np.int16) for part in parts]
    )
