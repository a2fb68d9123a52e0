"""Drawings in any frame and at any size, as a VQA model is shown them while it trains.

A picture is made from an entire drawing by two matrices, one for its rows and one for its columns:
an average over boxes of pixels at the size that the picture has, and the enlargement to the model's
input. What lies beyond a drawing's border repeats its last pixel: background, or the bust below.

Axes: B images, S the side of the model's input, C the side of the drawing, P patches.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.models.batch import Array
from rbjax.models.pixels import to_float
from tfds_retribooru.avatars.portraits import WHOLE, Frame

SIZES = (48, 64, 96, 128)  # pixels at which the model is trained and measured
BLUR = 0.9  # pixels, the most
# Where the drawing shows what decides an attribute: left, top, right, bottom in its units.
PLACES = {
    "accessory": (66, 94, 198, 130),
    "facial_hair": (84, 132, 180, 212),
    "clothing": (66, 200, 198, 280),
    "graphic": (99, 229, 165, 271),
    "eyes": (90, 98, 174, 126),
    "eyebrows": (90, 84, 174, 108),
    "mouth": (104, 136, 160, 172),
}


def size_matrix(size: int, target: int) -> np.ndarray:
    """Returns the matrix [target, 128] of a reduction to `size` pixels and `resize` after it."""
    edges = np.linspace(0, 128, size + 1)
    return enlargement(size, target) @ area_matrix(edges, 128)


@functools.cache
def enlargement(size: int, target: int) -> np.ndarray:
    """Returns the matrix [target, size] of `preprocessing.resize`."""
    return np.asarray(jax.image.resize(jnp.eye(size), (target, size), "linear", antialias=True))


def area_matrix(edges: np.ndarray, length: int) -> np.ndarray:
    """Returns a matrix [len(edges) - 1, length] that averages over what lies between edges.

    Args:
        edges: ascending, in pixels of a row of `length` pixels.
        length: beyond both ends of the row its last pixel is repeated.
    """
    low, high = edges[:-1, None], edges[1:, None]
    left, right = np.arange(0.0, length), np.arange(1.0, length + 1)
    left[0], right[-1] = -1e6, 1e6
    cover = np.clip(np.minimum(high, right) - np.maximum(low, left), 0, None)
    return cover / cover.sum(axis=1, keepdims=True)


def blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Returns a Gaussian blur of a row of `size` pixels, [size, size]; `sigma` is in pixels."""
    if sigma < 0.2:
        return np.eye(size)
    distance = np.arange(size)[:, None] - np.arange(size)
    kernel = np.exp(-(distance**2) / (2 * sigma**2))
    return kernel / kernel.sum(axis=1, keepdims=True)


def frame_matrices(
    frame: Frame, *, size: int, target: int, length: int, blur: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns matrices [target, length] for rows and columns of a drawing in frame `WHOLE`.

    Args:
        frame: what the picture shows.
        size: pixels of the picture.
        target: S, to which it is resized.
        length: C.
        blur: of the picture, in its pixels.
    """
    soften = enlargement(size, target) @ blur_matrix(size, blur)
    steps = np.linspace(0, frame.side, size + 1)
    scale = length / WHOLE.side
    rows = soften @ area_matrix((frame.top - WHOLE.top + steps) * scale, length)
    columns = soften @ area_matrix((frame.left - WHOLE.left + steps) * scale, length)
    return rows.astype(np.float32), (columns[::-1] if frame.flip else columns).astype(np.float32)


def place_masks(frame: Frame, names: list[str], *, patches: int) -> np.ndarray:
    """Returns bool [A, P]: the patches (of a grid patches x patches) that show each attribute.

    None does where PLACES has no such attribute.
    """
    masks = np.zeros((len(names), patches, patches), bool)
    edges = np.arange(patches + 1) / patches * frame.side
    rows, columns = frame.top + edges, frame.left + edges
    for mask, name in zip(masks, names, strict=True):
        if name in PLACES:
            left, top, right, bottom = PLACES[name]
            in_row = (rows[1:] > top) & (rows[:-1] < bottom)
            in_column = (columns[1:] > left) & (columns[:-1] < right)
            mask[:] = in_row[:, None] & (in_column[::-1] if frame.flip else in_column)
    return masks.reshape(len(names), -1)


@jax.jit
def warp(pixels: Array, rows: Array, columns: Array) -> jax.Array:
    """Returns images [B, S, S, 3] in [-1, 1].

    Args:
        pixels: uint8 [B, C, C, 3].
        rows: [B, S, C], or [S, C] for all images.
        columns: of the same shape.
    """
    images = to_float(jnp.asarray(pixels))
    images = jnp.einsum("...oh,...hwc->...owc", rows, images)
    return jnp.einsum("...ow,...hwc->...hoc", columns, images)


def add_noise(images: jax.Array, key: jax.Array) -> jax.Array:
    """Adds fine noise, coarse noise and a slight cast of colour to images [B, S, S, 3]."""
    batch, side = images.shape[:2]
    keys = jax.random.split(key, 6)
    fine = jax.random.uniform(keys[0], (batch, 1, 1, 1), maxval=0.08)
    coarse = jax.random.uniform(keys[1], (batch, 1, 1, 1), maxval=0.08)
    cells = -(-side // 5)
    noise = jax.random.normal(keys[2], (batch, cells, cells, 3))
    noise = noise.repeat(5, axis=1).repeat(5, axis=2)[:, :side, :side]
    cast = 0.03 * jax.random.normal(keys[3], (batch, 1, 1, 3))
    gain = 1 + 0.04 * jax.random.normal(keys[4], (batch, 1, 1, 1))
    noisy = images * gain + cast + coarse * noise
    return noisy + fine * jax.random.normal(keys[5], images.shape)
