"""Batches of a VQA model: on which devices they lie, and by what an image is known again."""

import hashlib
from typing import Any

import jax
import numpy as np

from rbjax.parallel import mesh as mesh_lib


def place(size: int, state: Any, *arrays: Any) -> tuple[Any, tuple[Any, ...]]:
    """Returns a state on all devices of `jax.set_mesh`, and arrays with their rows over them.

    Rows of a batch that does not divide are on all devices. Without a mesh, and where there are
    several processes (each of which asks about all images), all is as it was.

    Args:
        size: images of the batch; the arrays' rows are multiples of it.
        state: parameters.
        arrays: of the batch.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty or jax.process_count() > 1:
        return state, arrays
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    whole = mesh_lib.replicated(mesh)
    rows = whole if size % parts else mesh_lib.batch_sharding(mesh)
    return jax.device_put(state, whole), jax.device_put(arrays, rows)


def digest(image: np.ndarray) -> bytes:
    """Returns a key of an image's pixels and shape."""
    found = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16)
    found.update(repr((image.shape, image.dtype.str)).encode())
    return found.digest()
