"""The references of a character's cases, and real images of the outfit that are compared with.

A real image is never a variant of a reference (see `tfds_retribooru.variants`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from tfds_retribooru.clusters import Clusters


class References(NamedTuple):
    """References of a character, their concepts, and images of the outfit that are none."""

    positions: tuple[int, ...]
    concepts: tuple[int, ...]
    unused: list[int]


def apart(clusters: Clusters, images: np.ndarray, references: Sequence[int]) -> np.ndarray:
    """Returns the images that are no references, nor variants of them."""
    return images[~np.isin(clusters.variant[images], clusters.variant[list(references)])]


def _divide(
    clusters: Clusters, images: np.ndarray, usable: np.ndarray, count: int
) -> tuple[list[int], np.ndarray]:
    """Divides images into references, at most `count` of the usable [M], and others.

    The last image and its variants are no references where others are usable.
    """
    sets = clusters.variant[images]
    first = usable & (sets != sets[-1])
    chosen = images[first if first.any() else usable][:count].tolist()
    return chosen, apart(clusters, images, chosen)


def choose_composition(
    clusters: Clusters,
    members: np.ndarray,
    clothed: np.ndarray,
    *,
    rng: np.random.Generator,
    faces: int,
    clothes: int,
) -> References:
    """Draws an outfit, faces from other outfits, and clothes.

    Args:
        clusters: of the images.
        members: positions of the character's images [M].
        clothed: whether each can show clothes [M]; outfits of which none can are drawn last.
        rng: draws.
        faces: number of faces.
        clothes: number of clothes.
    """
    outfits, sets = clusters.outfit[members], clusters.variant[members]
    names = np.unique(outfits[clothed] if clothed.any() else outfits)
    several = names[np.array([len(np.unique(sets[outfits == name])) > 1 for name in names])]
    is_of_outfit = outfits == rng.choice(several if len(several) else names)
    same, other = rng.permutation(members[is_of_outfit]), rng.permutation(members[~is_of_outfit])
    shows = np.isin(same, members[clothed])
    same, shows = np.concatenate([same[shows], same[~shows]]), np.sort(shows)[::-1]
    worn, unused = _divide(clusters, same, shows, clothes)
    is_apart = np.isin(other, apart(clusters, other, unused.tolist()))
    other = np.concatenate([other[is_apart], other[~is_apart]])
    if not len(other):  # one outfit only: the face comes from it, one image stays unused
        other = apart(clusters, unused, unused[:1].tolist())
        if len(other):
            unused = unused[:1]
        else:  # without clothes references a single image is the face
            other, unused = same[: max(len(worn), 1)], unused[: len(worn)]
    drawn = other[:faces].tolist()
    concepts = (FACE,) * len(drawn) + (CLOTHES,) * len(worn)
    real = apart(clusters, unused, [*drawn, *worn]).tolist()
    return References((*drawn, *worn), concepts, real)


def choose_entire(
    clusters: Clusters, members: np.ndarray, rng: np.random.Generator, *, count: int
) -> References:
    """Draws `count` entire images of any outfit, if there are so many, from positions [M]."""
    drawn = rng.permutation(members)
    chosen, rest = _divide(clusters, drawn, np.ones(len(drawn), bool), count)
    return References(tuple(chosen), (CHARACTER,) * len(chosen), rest.tolist())
