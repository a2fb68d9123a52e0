"""Between pixels, uint8 in [0, 255], and what models read and return, float32 in [-1, 1]."""

from typing import overload

import jax
import numpy as np
from numpy.typing import ArrayLike


@overload
def to_float(image: np.ndarray) -> np.ndarray: ...
@overload
def to_float(image: jax.Array) -> jax.Array: ...
def to_float(image: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """Converts uint8 in [0, 255] to float32 in [-1, 1]."""
    return image.astype(np.float32) / 127.5 - 1


def to_uint8(image: ArrayLike) -> np.ndarray:
    """Converts float in [-1, 1], clipped to it, to uint8 in [0, 255]."""
    return np.round((np.clip(np.asarray(image), -1, 1) + 1) * 127.5).astype(np.uint8)
