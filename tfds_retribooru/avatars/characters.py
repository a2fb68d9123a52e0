"""Who is drawn: characters, their outfits and images, each a function of (seed, its numbers)."""

import collections
import dataclasses
import hashlib

import numpy as np

from tfds_retribooru.avatars import attributes
from tfds_retribooru.avatars.attributes import ATTRIBUTES, PALETTE, SKIN

OUTFITS, IMAGES = 3, 4  # of a character, of an outfit
JITTER = 6  # of a colour, in steps of 255, either way
NONE_RATE = {"accessory": 0.35, "facial_hair": 0.45}


@dataclasses.dataclass(frozen=True)
class Portrait:
    """One image: what it shows, and where.

    Attributes:
        character, outfit, image: its numbers; outfit and image count within their parent.
        values: attribute -> value, of all attributes.
        colors: "hair", "skin", "clothing", "background" -> RGB after jitter.
        flip: mirrored.
        left, top, side: the square of the drawing that is shown, in its units (264 x 280).
    """

    character: int
    outfit: int
    image: int
    values: dict[str, str]
    colors: dict[str, tuple[int, int, int]]
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
    """The id of an image."""
    return str(100000 + (character * OUTFITS + outfit) * IMAGES + image)


def portraits(seed: int, character: int, varied: bool) -> list[Portrait]:
    """All images of a character, outfit by outfit; no two have equal free attributes.

    Args:
        seed: of the data set.
        character: its number.
        varied: whether flip, position and scale vary.
    """
    identity, colors = _identity(seed, character)
    outfits = _outfits(seed, character)
    seen: set[tuple] = set()
    return [
        _portrait(seed, (character, o, i), {**identity, **outfit}, {**colors, **dyes}, varied, seen)
        for o, (outfit, dyes) in enumerate(outfits)
        for i in range(IMAGES)
    ]


def splits(count: int, seed: int = 0) -> dict[str, list[tuple[int, int]]]:
    """The (character, outfit) clusters of each split: 10 % of the characters are `test`, 5 % of
    the other characters' outfits are `validation`; chosen by hash of the name, not by chance.
    Two characters can be drawn alike; such a one is never in `test`, which is smaller by them."""

    def rank(key) -> str:
        return hashlib.md5(repr(key).encode()).hexdigest()

    looks = [tuple(_identity(seed, c)[0].values()) for c in range(count)]
    copies = collections.Counter(looks)
    chosen = sorted(range(count), key=rank)[: max(2, count // 10)]
    test = [c for c in chosen if copies[looks[c]] == 1]
    rest = [c for c in range(count) if c not in test]
    clusters = sorted(((c, o) for c in rest for o in range(OUTFITS)), key=rank)
    held_out = max(2, len(clusters) // 20)
    return {
        "train": sorted(clusters[held_out:]),
        "validation": sorted(clusters[:held_out]),
        "test": sorted((c, o) for c in test for o in range(OUTFITS)),
    }


def _draw(rng: np.random.Generator, name: str, without=()) -> str:
    values = [v for v in ATTRIBUTES[name].values if v not in without]
    if name in NONE_RATE:
        if rng.random() < NONE_RATE[name]:
            return "none"
        values.remove("none")
    return values[int(rng.integers(len(values)))]


def _shade(rng: np.random.Generator, color: tuple[int, int, int]) -> tuple[int, int, int]:
    return tuple(int(v) for v in np.clip(rng.integers(-JITTER, JITTER + 1, 3) + color, 0, 255))


def _identity(seed: int, character: int):
    rng = np.random.default_rng([seed, 0, character])
    values = {name: _draw(rng, name) for name in attributes.names("identity")}
    colors = {
        "hair": _shade(rng, PALETTE[values["hair_color"]]),
        "skin": _shade(rng, SKIN[values["skin"]]),
    }
    return values, colors


def _outfits(seed: int, character: int) -> list[tuple[dict, dict]]:
    """Three outfits with different clothing and different colours."""
    rng = np.random.default_rng([seed, 1, character])
    clothing, dyes, outfits = [], [], []
    for _ in range(OUTFITS):
        clothing.append(_draw(rng, "clothing", clothing))
        dyes.append(_draw(rng, "clothing_color", dyes))
        graphic = _draw(rng, "graphic", ["none"]) if clothing[-1] == "graphic shirt" else "none"
        values = {"clothing": clothing[-1], "clothing_color": dyes[-1], "graphic": graphic}
        outfits.append((values, {"clothing": _shade(rng, PALETTE[dyes[-1]])}))
    return outfits


def _portrait(seed, numbers, fixed, colors, varied, seen) -> Portrait:
    rng = np.random.default_rng([seed, 2, *numbers])
    taken = (fixed["hair_color"], fixed["clothing_color"])
    while True:
        free = {name: _draw(rng, name) for name in ("eyes", "eyebrows", "mouth")}
        free["background"] = _draw(rng, "background", taken)
        if tuple(free.values()) not in seen:
            break
    seen.add(tuple(free.values()))
    colors = {**colors, "background": _shade(rng, PALETTE[free["background"]])}
    return Portrait(*numbers, {**fixed, **free}, colors, *_frame(rng, varied))


def _frame(rng: np.random.Generator, varied: bool) -> tuple[bool, float, float, float]:
    """(flip, left, top, side): the bottom of the drawing is always the bottom of the picture."""
    if not varied:
        return False, 12.0, 40.0, 240.0
    side = float(rng.uniform(232, 280))
    left = float(132 - side / 2 + rng.uniform(-16, 16))
    return bool(rng.integers(2)), left, 280 - side, side
