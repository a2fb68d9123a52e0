"""Characters: their splits, what they are and wear, functions of a seed and their numbers.

A character depends on the seed and on those with smaller numbers, not on how many there are. No
two of a population look alike: they differ in what can be seen and has a tag.
"""

import dataclasses
import functools
from collections.abc import Collection

import numpy as np

from tfds_retribooru.avatars import attributes
from tfds_retribooru.avatars.attributes import ATTRIBUTES, PALETTE, SKIN
from tfds_retribooru.avatars.held_out import Combination, combinations

OUTFITS = 3  # of a character
JITTER = 6  # of a colour, in steps of 255, either way
NONE_RATE = {"accessory": 0.35, "facial_hair": 0.45}
OUT_OF_DOMAIN = "test_out_of_domain"
BLOCK = 20  # characters among which the splits are dealt out
SHARES = {"test": 2, "validation": 1, OUT_OF_DOMAIN: 2}  # of BLOCK; the others train
SHARES_OF_ALL = {"validation": 1}  # where nothing is held out

Color = tuple[int, int, int]  # RGB


@dataclasses.dataclass(frozen=True)
class Population:
    """Which characters there are.

    Attributes:
        seed: of every choice.
        count: of characters, at least BLOCK.
        holds_out: whether there are test splits, and values and combinations that only one of them
            shows. If not, all are in `train` and `validation`, and nobody looks like one whom
            `Population()` evaluates.
    """

    seed: int = 0
    count: int = 1000
    holds_out: bool = True


@dataclasses.dataclass(frozen=True)
class Outfit:
    """Attributes of kind "outfit", and the colour of the clothing after jitter."""

    values: dict[str, str]
    color: Color


@dataclasses.dataclass(frozen=True)
class Character:
    """What stays the same in its images.

    Attributes:
        number: in its population.
        split: that has all its images.
        values: attributes of kind "identity".
        colors: "hair", "skin" -> RGB after jitter.
        outfits: OUTFITS of different clothing and different colours.
    """

    number: int
    split: str
    values: dict[str, str]
    colors: dict[str, Color]
    outfits: tuple[Outfit, ...]

    @property
    def name(self) -> str:
        """As recorded."""
        return f"avatar_{self.number:04d}"

    @property
    def looks(self) -> tuple[tuple[str, str], ...]:
        """What can be seen of its identity and has a tag."""
        return looks(self.values)


def looks(identity: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Returns the (attribute, value) pairs that can be seen and have a tag."""
    return tuple(attributes.visible(identity).items())


@functools.lru_cache(maxsize=2)
def characters(population: Population) -> tuple[Character, ...]:
    """Returns all characters, by number.

    Raises:
        ValueError: they are too few for all splits, or more than can look different.
    """
    seed, count = population.seed, population.count
    if not BLOCK <= count <= 3000:
        raise ValueError(f"{count} characters: give {BLOCK} to 3,000, of whom no two look alike")
    shares = SHARES if population.holds_out else SHARES_OF_ALL
    rare = combinations(seed) if population.holds_out else ()
    taken = set() if population.holds_out else _evaluated(Population())
    found = []
    for number in range(count):
        split = _split(seed, number, shares)
        is_rare = split == OUT_OF_DOMAIN
        values, colors = _identity(seed, number, rare, is_rare=is_rare, taken=taken)
        taken.add(looks(values))
        outfits = _outfits(seed, number, rare, is_rare=is_rare)
        found.append(Character(number, split, values, colors, outfits))
    return tuple(found)


def splits(population: Population) -> dict[str, list[Character]]:
    """Returns the characters of each split."""
    shares = SHARES if population.holds_out else SHARES_OF_ALL
    everyone = characters(population)
    return {name: [c for c in everyone if c.split == name] for name in ("train", *shares)}


def draw_value(rng: np.random.Generator, name: str, without: Collection[str] = ()) -> str:
    """Draws a value of an attribute."""
    values = [v for v in ATTRIBUTES[name].values if v not in without]
    if name in NONE_RATE:
        if rng.random() < NONE_RATE[name]:
            return "none"
        values.remove("none")
    return values[int(rng.integers(len(values)))]


def shade(rng: np.random.Generator, color: Color) -> Color:
    """Returns a colour close to another."""
    red, green, blue = np.clip(rng.integers(-JITTER, JITTER + 1, 3) + color, 0, 255)
    return int(red), int(green), int(blue)


def _split(seed: int, number: int, shares: dict[str, int]) -> str:
    names = [name for name, share in shares.items() for _ in range(share)]
    names += ["train"] * (BLOCK - len(names))
    order = np.random.default_rng([seed, 3, number // BLOCK]).permutation(BLOCK)
    return names[order[number % BLOCK]]


def _evaluated(population: Population) -> set[tuple[tuple[str, str], ...]]:
    """Returns the looks of all who are not in `train`."""
    return {c.looks for c in characters(population) if c.split != "train"}


def _is_rare(values: dict[str, str], rare: Collection[Combination]) -> bool:
    pairs = set(values.items())
    return any(pairs.issuperset(combination) for combination in rare)


def _identity(
    seed: int,
    number: int,
    rare: Collection[Combination],
    *,
    is_rare: bool,
    taken: Collection[tuple[tuple[str, str], ...]],
) -> tuple[dict[str, str], dict[str, Color]]:
    """Returns the attributes of kind "identity", and the colours of hair and skin."""
    rng = np.random.default_rng([seed, 0, number])
    while True:
        values = {name: draw_value(rng, name) for name in attributes.names("identity")}
        if _is_rare(values, rare) == is_rare and looks(values) not in taken:
            break
    colors = {
        "hair": shade(rng, PALETTE[values["hair_color"]]),
        "skin": shade(rng, SKIN[values["skin"]]),
    }
    return values, colors


def _outfits(
    seed: int, number: int, rare: Collection[Combination], *, is_rare: bool
) -> tuple[Outfit, ...]:
    """Returns outfits with different clothing and different colours."""
    rng = np.random.default_rng([seed, 1, number])
    found: list[Outfit] = []
    while len(found) < OUTFITS:
        values = {
            name: draw_value(rng, name, [outfit.values[name] for outfit in found])
            for name in ("clothing", "clothing_color")
        }
        if _is_rare(values, rare) != is_rare:
            continue
        printed = values["clothing"] == "graphic shirt"
        values["graphic"] = draw_value(rng, "graphic", ["none"]) if printed else "none"
        found.append(Outfit(values, shade(rng, PALETTE[values["clothing_color"]])))
    return tuple(found)
