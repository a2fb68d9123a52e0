"""Truth: avatars can be drawn exactly as a case asks, so a generated image has something to equal.

The drawing is fitted to the image (where a figure stands is nobody's wish). Then

* *colour distance*: of hair, skin, clothes and background, between the mean colours of image and
  drawing over the region, as a share of the distance of black from white;
* *distance*: 1 - cosine of the features of image and drawing, in each embedding that there is (the
  VQA model's, a user's DINO or CLIP), and the same to the drawings of the other cases;
* *drawn value*: of an attribute, the value with which the drawing is nearest to the image, all else
  as asked. It is *clear* where the image is much nearer to it than to the second nearest. It tells
  how often the image shows what is wanted, and how often the VQA model is right about *generated*
  images, neither of which the VQA model can tell.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rbjax.evaluation.case_prompts import Vocabulary, tag_answers
from rbjax.evaluation.copying import Embed
from rbjax.evaluation.suite import Case
from rbjax.models.pixels import to_float
from rbjax.text.concepts import CLOTHES
from tfds_retribooru.avatars import attributes, drawing
from tfds_retribooru.avatars.attributes import ATTRIBUTES, PALETTE, SKIN
from tfds_retribooru.avatars.characters import OUTFITS, Character
from tfds_retribooru.avatars.portraits import (
    IMAGES,
    SHIFT,
    SIDES,
    Frame,
    Portrait,
    id_of,
    portraits,
)

COLOR_OF = {  # attribute that is a colour -> what it colours
    "hair_color": "hair",
    "skin": "skin",
    "clothing_color": "clothing",
    "background": "background",
}
EMPTY: Mapping[str, Embed] = {}
SIZE = 64  # pixels at which images and drawings are compared, at most
CLEAR = 0.3  # of the squared distance of the two nearest drawings
_CANVAS, _PIXELS = Frame(-120.0, -120.0, 560.0), 280  # contains all that a frame may show
_SMALL = 32  # pixels at which frames are compared
_MASK = 24  # of 255: a pixel whose colour changes by more belongs to what is recoloured


@dataclasses.dataclass(frozen=True)
class Avatars:
    """What draws the avatars of a split.

    Attributes:
        seed: of the data set.
        characters: all of its population, by number.
        varied: whether its figures move.
        vocabulary: of the data set.
        read_id: position of a record to its id.
    """

    seed: int
    characters: Sequence[Character]
    varied: bool
    vocabulary: Vocabulary
    read_id: Callable[[int], str]

    def portrait(self, position: int) -> Portrait:
        """Returns what the record at a position shows."""
        number = int(self.read_id(position)) - int(id_of(0, 0, 0))
        character = self.characters[number // (OUTFITS * IMAGES)]
        return portraits(self.seed, character, varied=self.varied)[number % (OUTFITS * IMAGES)]

    def asked(self, case: Case) -> Portrait:
        """Returns what a case asks for, standing where figures of `centered` stand.

        What neither prompt nor references say is as in the first reference.
        """
        first = self.portrait(case.references[0])
        worn = [p for p, c in zip(case.references, case.concepts, strict=True) if c == CLOTHES]
        clothes = self.portrait(worn[0]) if worn else first
        free = tag_answers(case.prompt, self.vocabulary, ("free",))
        outfit = {name: clothes.values[name] for name in attributes.names("outfit")}
        colors = first.colors | {"clothing": clothes.colors["clothing"]}
        values = first.values | outfit | free
        if "background" in free:
            colors["background"] = PALETTE[free["background"]]
        return dataclasses.replace(first, values=values, colors=colors, frame=Frame())

    def draw(self, case: Case, image: np.ndarray) -> Portrait:
        """Returns what a case asks for, standing where the figure of an image stands."""
        asked = self.asked(case)
        return dataclasses.replace(asked, frame=fit(image, asked)) if self.varied else asked


def fit(image: np.ndarray, portrait: Portrait) -> Frame:
    """Returns the frame with which the portrait's drawing is nearest to an image.

    Args:
        image: uint8 [H, H, 3].
        portrait: whose frame is not read.
    """
    canvas = drawing.rasterise(dataclasses.replace(portrait, frame=_CANVAS), _PIXELS)[0]
    targets = [_small(Image.fromarray(np.ascontiguousarray(i))) for i in (image, image[:, ::-1])]

    def error(frame: Frame) -> float:
        scale = _PIXELS / _CANVAS.side
        left, top = (frame.left - _CANVAS.left) * scale, (frame.top - _CANVAS.top) * scale
        side = frame.side * scale
        shown = _small(canvas, (left, top, left + side, top + side))
        return float(np.mean((shown - targets[frame.flip]) ** 2))

    found = []
    for flip in (False, True):  # a figure is nearly its mirror image: both are followed
        best = min((frame for frame in _frames() if frame.flip == flip), key=error)
        step = 16.0
        while step > 1:
            near = min([best, *_neighbours(best, step)], key=error)
            step, best = (step / 2 if near == best else step), near
        found.append(best)
    return min(found, key=error)


def drawn_values(
    image: np.ndarray, portrait: Portrait, names: Collection[str]
) -> dict[str, tuple[str, bool]]:
    """Returns of visible attributes the value whose drawing is nearest to an image.

    Colours come first: the shapes are then compared in the colours that the image has.

    Args:
        image: uint8 [H, H, 3].
        portrait: what is asked for, where the image shows it.
        names: of attributes.

    Returns:
        Attribute -> (value, whether it is clear).
    """
    found = {}
    shown = attributes.visible(portrait.values).keys() & set(names)
    for name in sorted(shown, key=lambda name: (name not in COLOR_OF, name)):
        values = [value for value in ATTRIBUTES[name].values if value != "none"]
        drawings = np.stack([_draw(with_value(portrait, name, v), len(image)) for v in values])
        errors = np.mean((drawings - image.astype(np.float32)) ** 2, axis=(1, 2, 3))
        first, second = np.argsort(errors, kind="stable")[:2]
        apart = float(np.mean((drawings[first] - drawings[second]) ** 2))
        margin = (errors[second] - errors[first]) / apart if apart else 0.0
        found[name] = (values[first], bool(margin >= CLEAR))
        if name in COLOR_OF and found[name][1]:
            portrait = with_value(portrait, name, values[first])
    return found


def color_distances(image: np.ndarray, portrait: Portrait) -> dict[str, float]:
    """Returns of each region that is seen the distance of mean colours, 0 to 1."""
    drawn = _draw(portrait, len(image))
    distances = {}
    for region, (red, green, blue) in portrait.colors.items():
        opposite = (255 - red, 255 - green, 255 - blue)
        if max(abs(red - 128), abs(green - 128), abs(blue - 128)) < _MASK:
            opposite = (255, 0, 255)
        other = dataclasses.replace(portrait, colors=portrait.colors | {region: opposite})
        mask = np.abs(_draw(other, len(image)) - drawn).max(axis=-1) > _MASK
        if mask.any():
            difference = image[mask].mean(axis=0) - drawn[mask].mean(axis=0)
            distances[region] = float(np.linalg.norm(difference) / (255 * np.sqrt(3)))
    return distances


def compare(
    images: Iterable[tuple[Case, np.ndarray, Mapping[str, str]]],
    avatars: Avatars,
    embeddings: Mapping[str, Embed] = EMPTY,
) -> dict[str, Any]:
    """Compares generated images with drawings.

    Args:
        images: for each the case, the image uint8 [H, H, 3], and the VQA model's answers about it.
        avatars: draw what is asked.
        embeddings: name -> images, float32 [N, H, H, 3] in [-1, 1], to vectors.

    Returns:
        {"images": count, "color_distance": {region: mean},
         "distance": {embedding: {"own": mean, "others": mean | null}},
         "attributes": {attribute: {"clear": count, "wanted": share of the clear ones that are as
         asked, "vqa": share of them for which the VQA model says so too}}}; a share of nothing is
        null.
    """
    distances: dict[str, list[float]] = defaultdict(list)
    checks: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    shown_images, drawings = [], []
    for case, full, given in images:
        image = _at_most(full, SIZE)
        portrait = avatars.draw(case, image)
        shown_images.append(image)
        drawings.append(np.asarray(drawing.rasterise(portrait, len(image))[0]))
        for region, value in color_distances(image, portrait).items():
            distances[region].append(value)
        for name, (value, is_clear) in drawn_values(image, portrait, given.keys()).items():
            shown = checks[name]
            if is_clear:
                shown.append((value == portrait.values[name], value == given[name]))
    return {
        "images": len(drawings),
        "distance": _distances(shown_images, drawings, embeddings) if drawings else {},
        "color_distance": {region: float(np.mean(v)) for region, v in sorted(distances.items())},
        "attributes": {
            name: {
                "clear": len(shown),
                "wanted": float(np.mean([a for a, _ in shown])) if shown else None,
                "vqa": float(np.mean([b for _, b in shown])) if shown else None,
            }
            for name, shown in sorted(checks.items())
        },
    }


def _distances(
    images: Sequence[np.ndarray], drawings: Sequence[np.ndarray], embeddings: Mapping[str, Embed]
) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    count = len(images)
    for name, embed in embeddings.items():
        vectors = (np.asarray(embed(to_float(np.stack(some)))) for some in (images, drawings))
        units = (v / np.linalg.norm(v, axis=1, keepdims=True).clip(1e-12) for v in vectors)
        shown, drawn = units
        distances = 1 - shown @ drawn.T
        own, every = float(np.trace(distances)), float(distances.sum())
        others = (every - own) / (count * (count - 1)) if count > 1 else None
        found[name] = {"own": own / count, "others": others}
    return found


def _at_most(image: np.ndarray, size: int) -> np.ndarray:
    """Returns an image at most `size` pixels wide: drawing takes time, and answers need no more."""
    if len(image) <= size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


def with_value(portrait: Portrait, name: str, value: str) -> Portrait:
    """Returns the portrait with another value of an attribute, and its colour."""
    values, colors = portrait.values | {name: value}, portrait.colors
    if name in COLOR_OF and value != portrait.values[name]:
        colors = colors | {COLOR_OF[name]: (SKIN if name == "skin" else PALETTE)[value]}
    return dataclasses.replace(portrait, values=values, colors=colors)


def _draw(portrait: Portrait, size: int) -> np.ndarray:
    return np.asarray(drawing.rasterise(portrait, size)[0], np.float32)


def _small(image: Image.Image, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    resized = image.resize((_SMALL, _SMALL), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized, np.float32)


def _frames() -> list[Frame]:
    """Returns frames all over the range in which figures stand."""
    return [
        Frame(132 + side * shift - side / 2, bottom - side, side, flip)
        for side in np.linspace(*SIDES, 5).tolist()
        for shift in np.linspace(-SHIFT, SHIFT, 7).tolist()
        for bottom in np.linspace(272, 352, 4).tolist()
        for flip in (False, True)
    ]


def _neighbours(frame: Frame, step: float) -> list[Frame]:
    """Returns frames that are moved or larger, or smaller about their middle."""
    moves = [(dx, dy, ds) for dx in (-1, 0, 1) for dy in (-1, 0, 1) for ds in (-1, 0, 1)]
    return [
        dataclasses.replace(
            frame,
            left=frame.left + step * (dx - ds / 2),
            top=frame.top + step * (dy - ds / 2),
            side=frame.side + step * ds,
        )
        for dx, dy, ds in moves
        if (dx, dy, ds) != (0, 0, 0)
        and -120 <= frame.left + step * (dx - ds / 2)
        and frame.left + step * (dx + ds / 2) + frame.side <= 440
        and -120 <= frame.top + step * (dy - ds / 2)
        and frame.top + step * (dy + ds / 2) + frame.side <= 440
    ]
