"""Chooses the references of a target by cluster: indices only, no pixel is read.

Tasks (paper, Tasks): which images may be references of a target, and which concept is taken.

  reconstruction  the target itself, as a whole picture (the leaky baseline)
  same_identity   other images of the character, any outfit, as whole pictures
  same_outfit     other images of the character in the same outfit, as whole pictures
  composition     faces of the character, from other outfits where there are any, and clothes
                  from other images of the same outfit

Except in `reconstruction`, the target is never its own reference. A concept for which the clusters
hold no other image gets no reference: a character with a single image trains without references,
a single-image outfit is composed from faces alone.
"""

import dataclasses

import numpy as np

from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from tfds_retribooru.clusters import Clusters

TASKS = ("reconstruction", "same_identity", "same_outfit", "composition")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """References of one target, padded to a fixed number R.

    Attributes:
        images: int32 [R], positions in the split; 0 at padding.
        concepts: int32 [R], into CONCEPTS.
        mask: bool [R], False at padding.
    """

    images: np.ndarray
    concepts: np.ndarray
    mask: np.ndarray


def choose(
    clusters: Clusters,
    target: int,
    task: str,
    faces: int,
    clothes: int,
    rng: np.random.Generator,
) -> Chosen:
    """Chooses the references of `target`, in constant time whatever the size of the clusters.

    Args:
        clusters: of the split.
        target: position of the target in the split.
        task: one of TASKS.
        faces: wanted number of faces.
        clothes: wanted number of clothes. Tasks with whole pictures use faces + clothes pictures.
        rng: the only source of chance.

    Raises:
        ValueError: unknown task.
    """
    pools = _pools(clusters, target, task, faces, clothes)
    images, concepts = [], []
    for concept, count, ranges in pools:
        picked = _pick(clusters.order, ranges, int(clusters.rank[target]), count, rng, task)
        images += picked
        concepts += [concept] * len(picked)
    return pad(images, concepts, faces + clothes)


def pad(images: list[int], concepts: list[int], size: int) -> Chosen:
    """Pads a list of references to `size`.

    Raises:
        ValueError: there are more than `size`.
    """
    if len(images) > size:
        raise ValueError(f"{len(images)} references do not fit into {size}")
    missing = size - len(images)
    return Chosen(
        np.array(images + [0] * missing, np.int32),
        np.array(concepts + [FACE] * missing, np.int32),
        np.arange(size) < len(images),
    )


def _pools(clusters: Clusters, target: int, task: str, faces: int, clothes: int):
    """[(concept, count, ranges into `order`)] of a task."""
    whole = faces + clothes
    character = [_range(clusters.character_start, clusters.character[target])]
    outfit = [_range(clusters.outfit_start, clusters.outfit[target])]
    if task == "reconstruction":
        position = int(clusters.rank[target])
        return [(CHARACTER, whole, [(position, position + 1)])]
    if task == "same_identity":
        return [(CHARACTER, whole, character)]
    if task == "same_outfit":
        return [(CHARACTER, whole, outfit)]
    if task == "composition":
        others = [(character[0][0], outfit[0][0]), (outfit[0][1], character[0][1])]
        if not sum(stop - start for start, stop in others):
            others = character
        return [(FACE, faces, others), (CLOTHES, clothes, outfit)]
    raise ValueError(f"unknown task {task!r}: use one of {', '.join(TASKS)}")


def _range(starts: np.ndarray, cluster: int) -> tuple[int, int]:
    return int(starts[cluster]), int(starts[cluster + 1])


def _pick(order, ranges, target_rank, count, rng, task) -> list[int]:
    """Up to `count` images out of the ranges, without the target unless it is the only source."""
    available, hole = 0, None  # numbers of the images in the ranges; that of the target
    for start, stop in ranges:
        if start <= target_rank < stop and task != "reconstruction":
            hole = available + target_rank - start
        available += stop - start
    available -= hole is not None
    picked = []
    for k in _distinct(available, min(count, available), rng):
        k += hole is not None and k >= hole  # skip the target
        for start, stop in ranges:
            if k < stop - start:
                picked.append(int(order[start + k]))
                break
            k -= stop - start
    return picked


def _distinct(available: int, count: int, rng: np.random.Generator) -> list[int]:
    """`count` distinct numbers below `available`; a few draws, also where `available` is huge."""
    if count == 0:
        return []
    if available <= 4 * count:
        return [int(k) for k in rng.permutation(available)[:count]]
    numbers: list[int] = []
    while len(numbers) < count:
        k = int(rng.integers(available))
        if k not in numbers:
            numbers.append(k)
    return numbers
