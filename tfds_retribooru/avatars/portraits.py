"""The images of a character: what each shows, and where."""

import dataclasses

import numpy as np

from tfds_retribooru.avatars.attributes import PALETTE
from tfds_retribooru.avatars.characters import OUTFITS, Character, Color, draw_value, shade

IMAGES = 4  # of an outfit
BUST = 280.0  # where the drawing ends below; it is 264 wide
FREE = ("eyes", "eyebrows", "mouth", "background")

# Of moving figures, in the drawing's units. The largest figure fills the picture from above the
# eyes' middle (FOREHEAD) to below what is printed on shirts (PRINT); 256 is the plain size, so
# figures are of 0.75 to 1.12 times that.
SIDES = (228.0, 341.0)  # of the square that is seen
FOREHEAD, PRINT = 44.0, 272.0
SHIFT = 0.12  # of the side, either way


@dataclasses.dataclass(frozen=True)
class Frame:
    """The square of the drawing that an image shows, in the drawing's units.

    Attributes:
        left: may be outside of the drawing, as may be the other edges.
        top: of the square.
        side: of the same.
        flip: whether the image is mirrored.
    """

    left: float = 12.0
    top: float = 40.0
    side: float = 240.0
    flip: bool = False


WHOLE = Frame(-16.0, -16.0, 296.0)  # the entire drawing; the lowest row is the bust's


@dataclasses.dataclass(frozen=True)
class Portrait:
    """One image: what it shows, and where.

    Attributes:
        character: whom.
        outfit: its number within the character.
        image: its number within the outfit.
        values: attribute -> value, of all attributes.
        colors: "hair", "skin", "clothing", "background" -> RGB after jitter.
        frame: where the figure is.
    """

    character: Character
    outfit: int
    image: int
    values: dict[str, str]
    colors: dict[str, Color]
    frame: Frame

    @property
    def id(self) -> str:
        """A decimal number, as Danbooru's."""
        return id_of(self.character.number, self.outfit, self.image)


def id_of(character: int, outfit: int, image: int) -> str:
    """Returns the id of an image."""
    return str(100000 + (character * OUTFITS + outfit) * IMAGES + image)


def portraits(
    seed: int, character: Character, *, varied: bool, whole: bool = False
) -> list[Portrait]:
    """Returns all images of a character, outfit by outfit; no two have equal free attributes.

    Args:
        seed: of the data set.
        character: of one of its populations.
        varied: whether flip, position and scale vary.
        whole: whether the entire drawing is shown instead.
    """
    fixed_frame = WHOLE if whole else None if varied else Frame()
    made: list[Portrait] = []
    seen: set[tuple[str, ...]] = set()
    for number, outfit in enumerate(character.outfits):
        for image in range(IMAGES):
            rng = np.random.default_rng([seed, 2, character.number, number, image])
            fixed = {**character.values, **outfit.values}
            free = _free_attributes(rng, fixed, seen)
            background = shade(rng, PALETTE[free["background"]])
            made.append(
                Portrait(
                    character=character,
                    outfit=number,
                    image=image,
                    values={**fixed, **free},
                    colors={
                        **character.colors,
                        "clothing": outfit.color,
                        "background": background,
                    },
                    frame=fixed_frame or moving_frame(rng),
                )
            )
    return made


def moving_frame(rng: np.random.Generator) -> Frame:
    """Draws flip, position and scale; the bust always reaches the picture's lower edge.

    The figure is moved by up to SHIFT of the picture either way, and up and down as far as face and
    print are seen, over 2 * SHIFT at the most.
    """
    side = float(rng.uniform(*SIDES))
    middle = 132 + side * float(rng.uniform(-SHIFT, SHIFT))
    bottom = float(rng.uniform(PRINT, min(FOREHEAD + side, PRINT + 2 * SHIFT * side)))
    return Frame(middle - side / 2, bottom - side, side, bool(rng.integers(2)))


def _free_attributes(
    rng: np.random.Generator, fixed: dict[str, str], seen: set[tuple[str, ...]]
) -> dict[str, str]:
    """Returns attributes of kind "free" that are not yet in `seen`, and adds them."""
    taken = (fixed["hair_color"], fixed["clothing_color"])
    while True:
        free = {name: draw_value(rng, name) for name in FREE[:-1]}
        free["background"] = draw_value(rng, "background", taken)
        if tuple(free.values()) not in seen:
            seen.add(tuple(free.values()))
            return free
