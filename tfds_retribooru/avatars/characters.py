"""Characters, their outfits and images, each a function of the seed and its numbers."""

import collections
import dataclasses
import hashlib
from collections.abc import Collection

import numpy as np

from tfds_retribooru.avatars import attributes
from tfds_retribooru.avatars.attributes import ATTRIBUTES, PALETTE, SKIN

OUTFITS, IMAGES = 3, 4  # of a character, of an outfit
JITTER = 6  # of a colour, in steps of 255, either way
NONE_RATE = {"accessory": 0.35, "facial_hair": 0.45}

Color = tuple[int, int, int]  # RGB


@dataclasses.dataclass(frozen=True)
class Portrait:
    """One image: what it shows, and where.

    Attributes:
        character: its number.
        outfit: its number within the character.
        image: its number within the outfit.
        values: attribute -> value, of all attributes.
        colors: "hair", "skin", "clothing", "background" -> RGB after jitter.
        flip: mirrored.
        left: of the square of the drawing that the image shows, in its units (264 x 280).
        top: of the same.
        side: of the same.
    """

    character: int
    outfit: int
    image: int
    values: dict[str, str]
    colors: dict[str, Color]
    flip: bool
    left: float
    top: float
    side: float

    @property
    def name(self) -> str:
        """The character's name."""
        return f"avatar_{self.character:04d}"

    @property
    def id(self) -> str:
        """A decimal number, as Danbooru's."""
        return id_of(self.character, self.outfit, self.image)


def id_of(character: int, outfit: int, image: int) -> str:
    """Returns the id of an image."""
    return str(100000 + (character * OUTFITS + outfit) * IMAGES + image)


def portraits(seed: int, character: int, *, varied: bool) -> list[Portrait]:
    """Returns all images of a character, outfit by outfit; no two have equal free attributes.

    Args:
        seed: of the data set.
        character: its number.
        varied: whether flip, position and scale vary.
    """
    identity, colors = _identity(seed, character)
    made: list[Portrait] = []
    seen: set[tuple[str, ...]] = set()
    for number, (clothing, dye) in enumerate(_outfits(seed, character)):
        for image in range(IMAGES):
            rng = np.random.default_rng([seed, 2, character, number, image])
            fixed = {**identity, **clothing}
            free = _free_attributes(rng, fixed, seen)
            background = _shade(rng, PALETTE[free["background"]])
            flip, left, top, side = _frame(rng, varied=varied)
            made.append(
                Portrait(
                    character=character,
                    outfit=number,
                    image=image,
                    values={**fixed, **free},
                    colors={**colors, "clothing": dye, "background": background},
                    flip=flip,
                    left=left,
                    top=top,
                    side=side,
                )
            )
    return made


def splits(count: int, seed: int = 0) -> dict[str, list[tuple[int, int]]]:
    """Returns the (character, outfit) clusters of each split, chosen by hash of their numbers.

    10 % of the characters are `test`, 5 % of the other characters' outfits are `validation`. Two
    characters can be drawn alike; such a one is never in `test`, which is smaller by them.

    Args:
        count: of characters.
        seed: of the data set.
    """

    def rank(key: int | tuple[int, int]) -> str:
        return hashlib.md5(repr(key).encode()).hexdigest()

    identities = [tuple(_identity(seed, c)[0].values()) for c in range(count)]
    copies = collections.Counter(identities)
    chosen = sorted(range(count), key=rank)[: max(2, count // 10)]
    test = [c for c in chosen if copies[identities[c]] == 1]
    rest = [c for c in range(count) if c not in test]
    clusters = sorted(((c, o) for c in rest for o in range(OUTFITS)), key=rank)
    held_out = max(2, len(clusters) // 20)
    return {
        "train": sorted(clusters[held_out:]),
        "validation": sorted(clusters[:held_out]),
        "test": sorted((c, o) for c in test for o in range(OUTFITS)),
    }


def _draw(rng: np.random.Generator, name: str, without: Collection[str] = ()) -> str:
    values = [v for v in ATTRIBUTES[name].values if v not in without]
    if name in NONE_RATE:
        if rng.random() < NONE_RATE[name]:
            return "none"
        values.remove("none")
    return values[int(rng.integers(len(values)))]


def _shade(rng: np.random.Generator, color: Color) -> Color:
    red, green, blue = np.clip(rng.integers(-JITTER, JITTER + 1, 3) + color, 0, 255)
    return int(red), int(green), int(blue)


def _identity(seed: int, character: int) -> tuple[dict[str, str], dict[str, Color]]:
    """Returns the attributes of kind "identity", and the colours of hair and skin."""
    rng = np.random.default_rng([seed, 0, character])
    values = {name: _draw(rng, name) for name in attributes.names("identity")}
    colors = {
        "hair": _shade(rng, PALETTE[values["hair_color"]]),
        "skin": _shade(rng, SKIN[values["skin"]]),
    }
    return values, colors


def _outfits(seed: int, character: int) -> list[tuple[dict[str, str], Color]]:
    """Returns three outfits with different clothing and different colours."""
    rng = np.random.default_rng([seed, 1, character])
    clothing: list[str] = []
    dyes: list[str] = []
    outfits = []
    for _ in range(OUTFITS):
        clothing.append(_draw(rng, "clothing", clothing))
        dyes.append(_draw(rng, "clothing_color", dyes))
        graphic = _draw(rng, "graphic", ["none"]) if clothing[-1] == "graphic shirt" else "none"
        values = {"clothing": clothing[-1], "clothing_color": dyes[-1], "graphic": graphic}
        outfits.append((values, _shade(rng, PALETTE[dyes[-1]])))
    return outfits


def _free_attributes(
    rng: np.random.Generator, fixed: dict[str, str], seen: set[tuple[str, ...]]
) -> dict[str, str]:
    """Returns attributes of kind "free" that are not yet in `seen`, and adds them."""
    taken = (fixed["hair_color"], fixed["clothing_color"])
    while True:
        free = {name: _draw(rng, name) for name in ("eyes", "eyebrows", "mouth")}
        free["background"] = _draw(rng, "background", taken)
        if tuple(free.values()) not in seen:
            seen.add(tuple(free.values()))
            return free


def _frame(rng: np.random.Generator, *, varied: bool) -> tuple[bool, float, float, float]:
    """Returns (flip, left, top, side); the drawing's bottom is always the image's bottom."""
    if not varied:
        return False, 12.0, 40.0, 240.0
    side = float(rng.uniform(232, 280))
    left = float(132 - side / 2 + rng.uniform(-16, 16))
    return bool(rng.integers(2)), left, 280 - side, side
