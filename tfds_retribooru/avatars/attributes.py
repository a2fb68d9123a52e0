"""The attributes of an avatar: their values, what draws them, their tags and questions."""

import dataclasses
from collections.abc import Collection
from typing import Any

import python_avatars as pa

from tfds_retribooru.vocabulary import Vocabulary

# Clearly different colours, so that "what color is ...?" has one answer.
PALETTE = {
    "red": (214, 38, 38),
    "orange": (247, 142, 30),
    "yellow": (250, 222, 70),
    "green": (52, 160, 68),
    "cyan": (66, 206, 214),
    "blue": (44, 92, 208),
    "purple": (128, 52, 176),
    "pink": (248, 152, 204),
    "brown": (124, 78, 44),
    "black": (34, 34, 38),
    "gray": (140, 144, 150),
    "white": (246, 246, 244),
}
SKIN = {
    "pale": (252, 224, 204),
    "tan": (224, 172, 124),
    "brown": (158, 100, 62),
    "dark": (104, 68, 50),
}


@dataclasses.dataclass(frozen=True)
class Attribute:
    """One property of an avatar.

    Attributes:
        kind: "identity", "outfit" or "free" (varies between images of one outfit).
        values: value -> what draws it (a python_avatars member or RGB).
        tag: template of the prompt's tag, "" for no tag; "none" is never tagged.
        question: asks for the value.
    """

    kind: str
    values: dict[str, Any]
    tag: str = "{}"
    question: str = ""


ATTRIBUTES = {
    "hair": Attribute(
        "identity",
        {
            "afro": pa.HairType.FRO,
            "bald": pa.HairType.NONE,
            "bob cut": pa.HairType.BOB,
            "curly hair": pa.HairType.CURLY,
            "dreadlocks": pa.HairType.DREADS,
            "half shaved": pa.HairType.HALF_SHAVED,
            "long hair": pa.HairType.STRAIGHT_STRAND,
            "messy hair": pa.HairType.WILD,
            "short hair": pa.HairType.SHORT_FLAT,
            "spiky hair": pa.HairType.EVIL_SPIKE,
            "wavy hair": pa.HairType.LOOSE_HAIR,
        },
        question="what is the hairstyle?",
    ),
    "hair_color": Attribute("identity", PALETTE, "{} hair", "what color is the hair?"),
    "skin": Attribute("identity", SKIN, "{} skin", "what color is the skin?"),
    "nose": Attribute(
        "identity",
        {"regular": pa.NoseType.DEFAULT, "small": pa.NoseType.SMALL, "wide": pa.NoseType.WIDE},
        tag="",
    ),
    "accessory": Attribute(
        "identity",
        {
            "none": pa.AccessoryType.NONE,
            "eyepatch": pa.AccessoryType.EYEPATCH,
            "round glasses": pa.AccessoryType.ROUND,
            "white sunglasses": pa.AccessoryType.KURT,
            "black sunglasses": pa.AccessoryType.WAYFARERS,
        },
        question="what is worn on the face?",
    ),
    "facial_hair": Attribute(
        "identity",
        {
            "none": pa.FacialHairType.NONE,
            "beard": pa.FacialHairType.BEARD_MAGESTIC,
            "moustache": pa.FacialHairType.MOUSTACHE_MAGNUM,
        },
        question="what facial hair is there?",
    ),
    "clothing": Attribute(
        "outfit",
        {
            "blazer": pa.ClothingType.BLAZER_SHIRT,
            "hoodie": pa.ClothingType.HOODIE,
            "overalls": pa.ClothingType.OVERALL,
            "shirt": pa.ClothingType.SHIRT_SCOOP_NECK,
            "sweater": pa.ClothingType.COLLAR_SWEATER,
            "graphic shirt": pa.ClothingType.GRAPHIC_SHIRT,
            "tuxedo": pa.ClothingType.BOND_SUIT,
            "robe": pa.ClothingType.JEDI_ROBE,
            "armor": pa.ClothingType.GLADIATOR,
        },
        question="what is the person wearing?",
    ),
    "clothing_color": Attribute("outfit", PALETTE, "{} clothes", "what color are the clothes?"),
    "graphic": Attribute(
        "outfit",
        {
            "none": pa.ClothingGraphic.NONE,
            "bat": pa.ClothingGraphic.BAT,
            "bear": pa.ClothingGraphic.BEAR,
            "diamond": pa.ClothingGraphic.DIAMOND,
            "pizza": pa.ClothingGraphic.PIZZA,
            "skull": pa.ClothingGraphic.SKULL,
        },
        "{} print",
        "what is printed on the shirt?",
    ),
    "eyes": Attribute(
        "free",
        {
            "open eyes": pa.EyeType.DEFAULT,
            "closed eyes": pa.EyeType.CLOSED,
            "wide eyes": pa.EyeType.SURPRISED,
            "heart eyes": pa.EyeType.HEART,
            "wink": pa.EyeType.WINK,
            "dizzy eyes": pa.EyeType.X_DIZZY,
        },
        question="what are the eyes like?",
    ),
    "eyebrows": Attribute(
        "free",
        {
            "flat": pa.EyebrowType.DEFAULT_NATURAL,
            "angry": pa.EyebrowType.ANGRY_NATURAL,
            "raised": pa.EyebrowType.RAISED_EXCITED_NATURAL,
            "sad": pa.EyebrowType.SAD_CONCERNED_NATURAL,
        },
        "{} eyebrows",
        "what are the eyebrows like?",
    ),
    "mouth": Attribute(
        "free",
        {
            "smile": pa.MouthType.SMILE,
            "frown": pa.MouthType.SAD,
            "tongue out": pa.MouthType.TONGUE,
            "open mouth": pa.MouthType.SCREAM_OPEN,
            "clenched teeth": pa.MouthType.GRIMACE,
            "puffed cheeks": pa.MouthType.EATING,
        },
        question="what is the mouth doing?",
    ),
    "background": Attribute("free", PALETTE, "{} background", "what color is the background?"),
}
HIDES_EYES = ("eyepatch", "white sunglasses", "black sunglasses")
HIDES_EYEBROWS = ("white sunglasses", "black sunglasses", "wavy hair")
HIDES_PRINT = ("white",)  # prints are white


def names(kind: str) -> list[str]:
    """Returns the attributes of a kind, in order."""
    return [name for name, attribute in ATTRIBUTES.items() if attribute.kind == kind]


def visible(values: dict[str, str]) -> dict[str, str]:
    """Returns the attributes that can be seen and named, of all of an image (name -> value).

    Of those of one kind, it returns what can be seen whatever the others are.
    """
    hidden = {name for name, value in values.items() if value == "none"}
    hidden |= {name for name, attribute in ATTRIBUTES.items() if not attribute.tag}
    if values.get("hair") == "bald" and values.get("facial_hair") == "none":
        hidden.add("hair_color")
    if values.get("accessory") in HIDES_EYES:
        hidden.add("eyes")
    if not {values.get("accessory"), values.get("hair")}.isdisjoint(HIDES_EYEBROWS):
        hidden.add("eyebrows")
    if values.get("clothing_color") in HIDES_PRINT:
        hidden.add("graphic")
    return {name: value for name, value in values.items() if name not in hidden}


def tag(name: str, value: str) -> str:
    """Returns the tag of an attribute's value."""
    return ATTRIBUTES[name].tag.format(value)


def tags(
    values: dict[str, str], kinds: Collection[str] = ("identity", "outfit", "free")
) -> list[str]:
    """Returns the tags of an image, of the given kinds."""
    return [
        tag(name, value)
        for name, value in visible(values).items()
        if ATTRIBUTES[name].kind in kinds
    ]


def vocabulary() -> Vocabulary:
    """Returns what `vocabulary.json` holds: every tag, and the question for its attribute."""
    tagged = {name: a for name, a in ATTRIBUTES.items() if a.tag}
    entries = {
        tag(name, value): {"attribute": name, "answer": value, "kind": a.kind}
        for name, a in tagged.items()
        for value in a.values
        if value != "none"
    }
    return {"tags": entries, "questions": {name: a.question for name, a in tagged.items()}}
