"""Chooses the references of a target by cluster: indices only, no pixel is read.

Tasks (paper, Tasks): which images may be references of a target, and which concept is taken.

  reconstruction  the target itself, the entire image (the leaky baseline)
  same_identity   other images of the character, any outfit, entire
  same_outfit     other images of the character in the same outfit, entire
  composition     faces of the character, from other outfits where there are any, and clothes
                  from other images of the same outfit

Except in `reconstruction`, neither the target nor a variant of it (the same drawing with little
changed, see `tfds_retribooru.variants`) is its reference. A concept for which the clusters
hold no other image gets no reference: a character with a single image trains without references,
a single-image outfit is composed from faces only.
"""

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from ml_collections import ConfigDict

from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from tfds_retribooru.clusters import Clusters, Range

TASKS = ("reconstruction", "same_identity", "same_outfit", "composition")


@dataclasses.dataclass(frozen=True)
class ReferenceChoice:
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
    *,
    task: str,
    faces: int,
    clothes: int,
    rng: np.random.Generator,
    clothed: Clusters | None = None,
) -> ReferenceChoice:
    """Chooses the references of `target`, in constant time whatever the size of the clusters.

    Args:
        clusters: of the split.
        target: position of the target in the split.
        task: one of TASKS.
        faces: number of faces, if there are so many.
        clothes: number of clothes. Tasks with entire images use faces + clothes images.
        rng: the only source of randomness.
        clothed: the same clusters with only the images that can show clothes; None: all can.

    Raises:
        ValueError: unknown task.
    """
    pools = _pools(clusters, target, task=task, faces=faces, clothes=clothes, clothed=clothed)
    images, concepts = [], []
    for concept, count, source, ranges in pools:
        excluded = [] if task == "reconstruction" else source.rank[clusters.variants_of(target)]
        drawn = _draw(source.order, ranges, count=count, excluded=excluded, rng=rng)
        images += drawn
        concepts += [concept] * len(drawn)
    return pad(images, concepts, faces + clothes)


def pad(images: Sequence[int], concepts: Sequence[int], size: int) -> ReferenceChoice:
    """Pads a list of references to `size`.

    Raises:
        ValueError: there are more than `size`.
    """
    if len(images) > size:
        raise ValueError(
            f"{len(images)} references do not fit into {size}, the sum of config.data.faces and "
            "config.data.clothes: raise one of them, or give fewer"
        )
    missing = size - len(images)
    return ReferenceChoice(
        np.array([*images, *[0] * missing], np.int32),
        np.array([*concepts, *[FACE] * missing], np.int32),
        np.arange(size) < len(images),
    )


def _pools(
    clusters: Clusters,
    target: int,
    *,
    task: str,
    faces: int,
    clothes: int,
    clothed: Clusters | None,
) -> list[tuple[int, int, Clusters, list[Range]]]:
    """Returns (concept, number of references, clusters and ranges of them to draw from)."""
    character, outfit = clusters.character_range(target), clusters.outfit_range(target)
    if task == "reconstruction":
        rank = int(clusters.rank[target])
        return [(CHARACTER, faces + clothes, clusters, [(rank, rank + 1)])]
    if task == "same_identity":
        return [(CHARACTER, faces + clothes, clusters, [character])]
    if task == "same_outfit":
        return [(CHARACTER, faces + clothes, clusters, [outfit])]
    if task == "composition":
        others = list(clusters.other_outfit_ranges(target))
        variants = clusters.rank[clusters.variants_of(target)]
        if not sum(stop - start for start, stop in others) - len(_inside(others, variants)):
            others = [character]
        clothed = clothed or clusters
        worn = clothed.outfit_range(target)
        return [(FACE, faces, clusters, others), (CLOTHES, clothes, clothed, [worn])]
    raise ValueError(f"unknown task {task!r}: use one of {', '.join(TASKS)}")


def _inside(ranges: Sequence[Range], places: Iterable[int]) -> list[int]:
    """Returns which places are in the ranges; each as its number among theirs, sorted."""
    found, before = [], 0
    for start, stop in ranges:
        found += [before + place - start for place in places if start <= place < stop]
        before += stop - start
    return sorted(found)


def _draw(
    order: np.ndarray,
    ranges: Sequence[Range],
    *,
    count: int,
    excluded: Collection[int],
    rng: np.random.Generator,
) -> list[int]:
    """Draws up to `count` different images from ranges of `order`, without some places of it."""
    holes = _inside(ranges, excluded)  # the images of the ranges are numbered
    available = sum(stop - start for start, stop in ranges) - len(holes)
    images = []
    for k in _distinct(available, min(count, available), rng):
        for hole in holes:
            k += k >= hole
        for start, stop in ranges:
            if k < stop - start:
                images.append(int(order[start + k]))
                break
            k -= stop - start
    return images


def _distinct(available: int, count: int, rng: np.random.Generator) -> list[int]:
    """Draws `count` distinct numbers below `available`, quickly also where `available` is huge."""
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


def draw_task(weights: ConfigDict, rng: np.random.Generator) -> str:
    """Draws one of TASKS by its weight, see `config.data.tasks`."""
    names = sorted(weights)
    cumulative = np.cumsum([weights[name] for name in names])
    return names[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]
