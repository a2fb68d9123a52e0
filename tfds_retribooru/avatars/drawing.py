"""Draws portraits: python_avatars writes the SVG, resvg rasterises it.

`draw_all` runs one process a core, each of which draws a share of a data set to its standard output
(`main`), and gives the pictures in order.
"""

import argparse
import functools
import io
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import python_avatars as pa
import resvg_py
from PIL import Image

from tfds_retribooru.avatars import characters
from tfds_retribooru.avatars.attributes import ATTRIBUTES
from tfds_retribooru.avatars.characters import Portrait

SIZE = 128  # pixels
HEAD = (40.0, 30.0, 224.0, 196.0)  # left, top, right, bottom of head and hair in the drawing


def draw(portrait: Portrait) -> tuple[bytes, bytes]:
    """The picture (RGB) and the figure's mask (grey), both PNG of SIZE x SIZE."""
    svg = _svg(portrait)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    figure = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    if portrait.flip:
        figure = figure.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = Image.new("RGBA", figure.size, portrait.colors["background"])
    picture.alpha_composite(figure)
    return _png(picture.convert("RGB")), _png(figure.getchannel("A"))


def face_box(portrait: Portrait) -> np.ndarray:
    """The head's box, from the drawing's geometry: float32 (centre x, centre y, width, height)."""
    left, top, right, bottom = np.clip(
        (np.array(HEAD) - [portrait.left, portrait.top] * 2) / portrait.side, 0, 1
    )
    if portrait.flip:
        left, right = 1 - right, 1 - left
    box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return np.array(box, np.float32)


def draw_all(
    seed: int, clusters: list[tuple[int, int]], varied: bool
) -> Iterator[tuple[Portrait, bytes, bytes]]:
    """Portraits of (character, outfit) clusters with picture and mask, drawn on all cores."""
    workers = [_worker(seed, varied, part) for part in _parts(clusters)]
    try:
        for i, portrait in enumerate(_portraits(seed, varied, clusters)):
            pipe = workers[i // characters.IMAGES % len(workers)].stdout
            yield portrait, _read(pipe), _read(pipe)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


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
    square = f'width="{SIZE}px" height="{SIZE}px" viewBox="%.3f %.3f %.3f %.3f"' % (
        portrait.left,
        portrait.top,
        portrait.side,
        portrait.side,
    )
    whole = 'width="264px" height="280px" viewBox="0 0 264 280"'
    svg = avatar.render()
    if whole not in svg:
        raise RuntimeError("python_avatars draws on another canvas than 264 x 280: use 1.4.x")
    return svg.replace(whole, square, 1)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _portraits(seed: int, varied: bool, clusters) -> Iterator[Portrait]:
    whole = functools.lru_cache(maxsize=1)(characters.portraits)  # neighbours share a character
    for character, outfit in clusters:
        yield from (p for p in whole(seed, character, varied) if p.outfit == outfit)


def _parts(clusters: list) -> list[list]:
    count = min(os.cpu_count() or 1, len(clusters))
    return [clusters[k::count] for k in range(count)]


def _worker(seed: int, varied: bool, clusters) -> subprocess.Popen:
    """A process of its own: independent of how, and by which threads, the caller was started."""
    program = f"from {__name__} import main; main()"
    command = [sys.executable, "-c", program, "--seed", str(seed), "--varied", str(int(varied))]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    worker = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    worker.stdin.write("".join(f"{c} {o}\n" for c, o in clusters).encode())
    worker.stdin.close()
    return worker


def _write(pipe: BinaryIO, data: bytes) -> None:
    pipe.write(struct.pack(">I", len(data)) + data)


def _read(pipe: BinaryIO) -> bytes:
    header = pipe.read(4)
    data = pipe.read(*struct.unpack(">I", header)) if len(header) == 4 else b""
    if not data:
        raise RuntimeError("a drawing process ended early; its message is above")
    return data


def main() -> None:
    """Draws the clusters ("character outfit" lines) of standard input to standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--varied", type=int, required=True)
    args = parser.parse_args()
    clusters = [tuple(map(int, line.split())) for line in sys.stdin]
    for portrait in _portraits(args.seed, bool(args.varied), clusters):
        for data in draw(portrait):
            _write(sys.stdout.buffer, data)
