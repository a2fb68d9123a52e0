"""Values and combinations that only `test_out_of_domain` shows, a function of the seed.

One hairstyle and one garment are held out whole; of every other hairstyle and garment (but for
bald heads, whose colour is not seen) PAIRS colours are.
"""

from collections.abc import Mapping

import numpy as np

from tfds_retribooru.avatars import attributes
from tfds_retribooru.avatars.attributes import ATTRIBUTES, PALETTE

PAIRS = 2  # colours that are held out of a hairstyle or a garment
COLOR_OF = {"hair": "hair_color", "clothing": "clothing_color"}
ALWAYS_SEEN = ("bald", "graphic shirt")  # nothing else is bald, or has a print

Combination = tuple[tuple[str, str], ...]  # one or two pairs of attribute and value


def combinations(seed: int) -> tuple[Combination, ...]:
    """Returns what is held out by the data sets of a seed."""
    rng = np.random.default_rng([seed, 4])
    found: list[Combination] = []
    for name, color in COLOR_OF.items():
        values = [v for v in ATTRIBUTES[name].values if v not in ALWAYS_SEEN]
        held_out = values[int(rng.integers(len(values)))]
        found.append(((name, held_out),))
        colors = rng.permutation(list(PALETTE)).tolist()
        rest = [v for v in ATTRIBUTES[name].values if v not in ("bald", held_out)]
        for i, value in enumerate(rest):
            for number in range(i * PAIRS, (i + 1) * PAIRS):  # no colour more often than others
                found.append(((name, value), (color, colors[number % len(colors)])))
    return tuple(found)


def held_out(values: Mapping[str, str], seed: int = 0) -> list[Combination]:
    """Returns what of an image is held out: nothing, but in `test_out_of_domain`.

    Args:
        values: attribute -> value, of all attributes or of some kinds.
        seed: of the data set; 0 is that of all configurations with the split.
    """
    pairs = set(values.items())
    return [combination for combination in combinations(seed) if pairs.issuperset(combination)]


def vocabulary(seed: int) -> dict[str, dict[str, str]]:
    """Returns what is held out by the tags that name it, such as "afro, red hair"."""
    return {
        ", ".join(attributes.tag(name, value) for name, value in combination): dict(combination)
        for combination in combinations(seed)
    }
