"""Draws portraits: python_avatars writes the SVG, resvg rasterises it."""

import functools
import io
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import joblib
import numpy as np
import python_avatars as pa
import resvg_py
from PIL import Image

from tfds_retribooru.avatars import characters
from tfds_retribooru.avatars.attributes import ATTRIBUTES
from tfds_retribooru.avatars.characters import Portrait

SIZE = 128  # pixels
HEAD = (40.0, 30.0, 224.0, 196.0)  # left, top, right, bottom of head and hair in the drawing

Drawing = tuple[Portrait, bytes, bytes]  # with image (RGB) and figure's mask (grey), both PNG


def draw_all(seed: int, clusters: list[tuple[int, int]], *, varied: bool) -> Iterator[Drawing]:
    """Yields the drawings of (character, outfit) clusters in order, drawn on all cores.

    joblib's processes ("loky") are started afresh whatever the caller is: a script without a main
    guard, a notebook, a program with threads. They go when they have had nothing to do for 10 s.

    Raises:
        RuntimeError: a process ended, for instance because there was no memory for it.
    """
    parallel = joblib.Parallel(n_jobs=-1, return_as="generator", idle_worker_timeout=10)
    jobs = (joblib.delayed(draw_cluster)(seed, *cluster, varied=varied) for cluster in clusters)
    try:
        for drawings in parallel(jobs):
            yield from drawings
    except BrokenProcessPool as error:
        raise RuntimeError(f"a drawing process ended early: {error}") from error


def draw_cluster(seed: int, character: int, outfit: int, *, varied: bool) -> list[Drawing]:
    """Returns the drawings of one outfit of a character."""
    portraits = _portraits(seed, character, varied=varied)
    return [(p, *draw(p)) for p in portraits if p.outfit == outfit]


_portraits = functools.lru_cache(maxsize=1)(characters.portraits)  # for a character's next outfit


def draw(portrait: Portrait) -> tuple[bytes, bytes]:
    """Returns the image (RGB) and the figure's mask (grey), both PNG of SIZE x SIZE."""
    svg = _svg(portrait)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    figure = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    if portrait.flip:
        figure = figure.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = Image.new("RGBA", figure.size, portrait.colors["background"])
    image.alpha_composite(figure)
    return _png(image.convert("RGB")), _png(figure.getchannel("A"))


def face_box(portrait: Portrait) -> np.ndarray:
    """Returns the head's box from the drawing's geometry, float32 [4]; see boxes.Box."""
    left, top, right, bottom = np.clip(
        (np.array(HEAD) - [portrait.left, portrait.top] * 2) / portrait.side, 0, 1
    )
    if portrait.flip:
        left, right = 1 - right, 1 - left
    box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return np.array(box, np.float32)


def _svg(portrait: Portrait) -> str:
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
    left, top, side = portrait.left, portrait.top, portrait.side
    box = f"{left:.3f} {top:.3f} {side:.3f} {side:.3f}"
    square = f'width="{SIZE}px" height="{SIZE}px" viewBox="{box}"'
    canvas = 'width="264px" height="280px" viewBox="0 0 264 280"'
    svg = avatar.render()
    if canvas not in svg:
        raise RuntimeError("python_avatars draws on another canvas than 264 x 280: use 1.4.x")
    return svg.replace(canvas, square, 1)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
