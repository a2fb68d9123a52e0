"""The page's own pictures: characters of the test split of `avatars`, drawn when it starts."""

import dataclasses
import functools
import io

import numpy as np
from PIL import Image

from rbjax.data import crops
from rbjax.demo_page import pictures
from rbjax.text.concepts import CARRIED, CLOTHES, CONCEPTS, FACE
from tfds_retribooru.avatars import attributes, characters, drawing
from tfds_retribooru.avatars import portraits as portraits_lib
from tfds_retribooru.avatars.characters import Character, Population
from tfds_retribooru.boxes import SizedBox

POPULATION = Population()  # of the data set `avatars`
SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Portrait:
    """A picture of the gallery.

    Attributes:
        name: of the character.
        picture: data URL.
        tags: of identity and outfit, for people.
        boxes: concept to its box in the picture; "character" has none.
    """

    name: str
    picture: str
    tags: dict[str, str]
    boxes: dict[str, SizedBox]


@functools.cache
def portraits() -> tuple[Portrait, ...]:
    """Returns a picture of each of SHOWN characters that training never saw."""
    return tuple(map(_portrait, characters.splits(POPULATION)["test"][:SHOWN]))


def item(portrait: Portrait, concept: str) -> dict[str, object]:
    """Returns a reference to a portrait as the page sends it; see `pictures.read_references`."""
    box = portrait.boxes.get(concept)
    return {"concept": concept, "picture": portrait.picture, "box": list(box) if box else None}


def _portrait(character: Character) -> Portrait:
    made = portraits_lib.portraits(POPULATION.seed, character, varied=False)[0]
    png, mask = drawing.draw(made)
    image = np.asarray(Image.open(io.BytesIO(png)))
    figure = np.asarray(Image.open(io.BytesIO(mask)))[..., None]
    face = drawing.face_box(made)
    found = {}
    for concept in (FACE, CLOTHES):
        box = crops.concept_box(face, figure, concept=concept, shape=image.shape[:2])
        found[CONCEPTS[concept]] = (
            *(box.left, box.top),
            *(box.right - box.left, box.bottom - box.top),
        )
    tags = {
        CONCEPTS[c]: ", ".join(attributes.tags(made.values, list(CARRIED[c])))
        for c in (FACE, CLOTHES)
    }
    return Portrait(character.name.replace("_", " "), pictures.png_url(png), tags, found)
