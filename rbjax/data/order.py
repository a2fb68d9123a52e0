"""The order in which a run reads its targets: drawn by character, in batches of one shape.

The target of example k is a function of (seed, k), so a run that resumes continues it, and every
process finds its share. Where neither is wanted, grain's shuffle does it.
"""

import dataclasses
import functools

import grain
import numpy as np

from tfds_retribooru.clusters import Clusters

ENDLESS = 2**62  # examples of a run


def targets(
    clusters: Clusters, shapes: np.ndarray | None, *, power: float, batch_size: int, seed: int
) -> grain.MapDataset[int]:
    """Returns the positions of the targets of all examples of an endless run.

    Args:
        clusters: of the split.
        shapes: width and height of each target, int [N, 2]; None: all have one shape.
        power: of a character's number of images, by which it is drawn.
        batch_size: of all processes together.
        seed: of all that is drawn.
    """
    if power == 1 and shapes is None:
        return grain.MapDataset.range(len(clusters)).seed(seed).shuffle().repeat()
    weights = None if power == 1 else character_weights(clusters, power)
    kinds = np.zeros(len(clusters), int)
    if shapes is not None:
        kinds = np.unique(shapes, axis=0, return_inverse=True)[1].reshape(-1)
    order = TargetOrder(weights, kinds, batch_size=batch_size, seed=seed)
    return grain.MapDataset.range(ENDLESS).seed(seed).map(order)


def character_weights(clusters: Clusters, power: float) -> np.ndarray:
    """Returns the weight of every image, float64 [N], with which characters come by a power.

    A character of n images comes as often as n**power says: 1 is as often as it has images, 0 as
    often as any other. Its images come equally often.
    """
    return np.diff(clusters.character_start)[clusters.character] ** (power - 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class TargetOrder:
    """`order(k)` is the position of the target of example k; a batch has targets of one shape.

    An epoch has as many examples as there are images, less what does not fill a batch. In it an
    image comes floor(e) or ceil(e) times, where e is what its weight asks for.

    Attributes:
        weights: of the images, float64 [N]; None: each comes once an epoch.
        shapes: of the images, int [N], any numbers.
        batch_size: of all processes together.
        seed: of all that is drawn.
    """

    weights: np.ndarray | None
    shapes: np.ndarray
    batch_size: int
    seed: int

    def __call__(self, k: int) -> int:
        """Returns the position in the split."""
        batch, place = divmod(k, self.batch_size)
        epoch, number = divmod(batch, max(1, len(self.shapes) // self.batch_size))
        return int(_epoch(self, epoch)[number, place])


@functools.lru_cache(maxsize=4)
def _epoch(order: TargetOrder, epoch: int) -> np.ndarray:
    """Returns the batches of an epoch, int [batches, batch_size]."""
    size, rng = order.batch_size, np.random.default_rng([order.seed, epoch])
    drawn = _draw(order, rng)
    groups = [drawn[order.shapes[drawn] == shape] for shape in np.unique(order.shapes)]
    batches = [
        row for group in groups for row in group[: len(group) // size * size].reshape(-1, size)
    ]
    missing = max(1, len(drawn) // size) - len(batches)
    left = np.array([len(group) % size for group in groups]) + 1e-9
    chosen = rng.choice(len(groups), missing, replace=False, p=left / left.sum())
    for group in (groups[i] for i in chosen):  # what is left over, filled with others of its shape
        rest = group[len(group) // size * size :]
        batches.append(np.concatenate([rest, np.resize(group, size - len(rest))]))
    return rng.permutation(np.stack(batches))


def _draw(order: TargetOrder, rng: np.random.Generator) -> np.ndarray:
    """Draws the images of an epoch, int [N], by their weights, as evenly as these allow."""
    images = rng.permutation(len(order.shapes))
    if order.weights is None:
        return images
    ends = np.cumsum(order.weights[images])
    points = (np.arange(len(images)) + rng.random()) / len(images) * ends[-1]
    places = np.searchsorted(ends, points, side="right")
    return rng.permutation(images[np.minimum(places, len(images) - 1)])
