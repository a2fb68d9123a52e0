"""Draws portraits: python_avatars writes the SVG, resvg rasterises it."""

import functools
import io
from collections.abc import Iterable, Iterator

import joblib
import numpy as np
import python_avatars as pa
import resvg_py
from PIL import Image

from tfds_retribooru import processes
from tfds_retribooru.avatars.attributes import ATTRIBUTES
from tfds_retribooru.avatars.characters import Character
from tfds_retribooru.avatars.portraits import BUST, Portrait, portraits

SIZE = 128  # pixels, where nothing else is said
HEAD = (32.0, 10.0, 232.0, 196.0)  # left, top, right, bottom of head and hair in the drawing

Drawing = tuple[Portrait, bytes, bytes]  # with image (RGB) and figure's mask (grey), both PNG


def draw_all(
    seed: int,
    characters: Iterable[Character],
    *,
    varied: bool,
    whole: bool = False,
    size: int = SIZE,
) -> Iterator[Drawing]:
    """Yields the drawings of characters in order, drawn on all cores.

    Args:
        seed: of the data set.
        characters: whom to draw.
        varied: whether flip, position and scale vary.
        whole: whether the entire drawing is shown instead.
        size: pixels of an image's side.

    Raises:
        ChildProcessError: a process ended, for instance because there was no memory for it.
    """
    draw_one = functools.partial(draw_character, seed, varied=varied, whole=whole, size=size)
    jobs = ((character,) for character in characters)
    for drawings in processes.map_in_order(draw_one, jobs, workers=joblib.cpu_count()):
        yield from drawings


def draw_character(
    seed: int, character: Character, *, varied: bool, whole: bool, size: int
) -> list[Drawing]:
    """Returns the drawings of a character."""
    return [(p, *draw(p, size)) for p in portraits(seed, character, varied=varied, whole=whole)]


def draw(portrait: Portrait, size: int = SIZE) -> tuple[bytes, bytes]:
    """Returns the image (RGB) and the figure's mask (grey), both PNG of size x size."""
    image, mask = rasterise(portrait, size)
    return _png(image), _png(mask)


def rasterise(portrait: Portrait, size: int = SIZE) -> tuple[Image.Image, Image.Image]:
    """Returns the image (RGB) and the figure's mask (grey), both of size x size."""
    svg = _svg(portrait, size)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    figure = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    figure = _extend_bust(figure, portrait)
    if portrait.frame.flip:
        figure = figure.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = Image.new("RGBA", figure.size, portrait.colors["background"])
    image.alpha_composite(figure)
    return image.convert("RGB"), figure.getchannel("A")


def face_box(portrait: Portrait) -> np.ndarray:
    """Returns the head's box from the drawing's geometry, float32 [4]; see boxes.Box."""
    frame = portrait.frame
    left, top, right, bottom = np.clip(
        (np.array(HEAD) - [frame.left, frame.top] * 2) / frame.side, 0, 1
    )
    if frame.flip:
        left, right = 1 - right, 1 - left
    box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return np.array(box, np.float32)


def _extend_bust(figure: Image.Image, portrait: Portrait) -> Image.Image:
    """Repeats the lowest row of the drawing, down to the picture's lower edge."""
    frame = portrait.frame
    last = int((BUST - frame.top) / frame.side * figure.height) - 1  # is wholly in the drawing
    if last >= figure.height - 1:
        return figure
    pixels = np.array(figure)
    pixels[last + 1 :] = pixels[last]
    return Image.fromarray(pixels)


def _svg(portrait: Portrait, size: int) -> str:
    v = portrait.values
    colors = {k: "#{:02x}{:02x}{:02x}".format(*c) for k, c in portrait.colors.items()}
    parts = {
        name: ATTRIBUTES[name].values[v[name]]
        for name in ("nose", "accessory", "facial_hair", "clothing", "eyes", "eyebrows", "mouth")
    }
    avatar = pa.Avatar(
        style=pa.AvatarStyle.TRANSPARENT,
        top=ATTRIBUTES["hair"].values[v["hair"]],
        shirt_graphic=ATTRIBUTES["graphic"].values[v["graphic"]],
        hair_color=colors["hair"],
        facial_hair_color=colors["hair"],
        skin_color=colors["skin"],
        clothing_color=colors["clothing"],
        **parts,
    )
    frame = portrait.frame
    box = f"{frame.left:.3f} {frame.top:.3f} {frame.side:.3f} {frame.side:.3f}"
    square = f'width="{size}px" height="{size}px" viewBox="{box}"'
    canvas = 'width="264px" height="280px" viewBox="0 0 264 280"'
    svg = avatar.render()
    if canvas not in svg:
        raise RuntimeError("python_avatars draws on another canvas than 264 x 280: use 1.4.x")
    return svg.replace(canvas, square, 1)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
