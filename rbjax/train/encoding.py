"""Runs a frozen encoder over many rows, in batches on the mesh.

Axes: B batch, k integers that name a row.
"""

import collections
import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import nnx

from rbjax.experiment.setup import Experiment
from rbjax.models.autoencoder_kl import AutoencoderKL
from rbjax.models.pixels import to_float
from rbjax.parallel import mesh as meshes

Module = TypeVar("Module", bound=nnx.Module)
Load = Callable[[np.ndarray], np.ndarray]  # keys [B, k] -> what the encoder reads of them [B, ...]
Encode = Callable[[jax.Array], jax.Array]  # [B, ...] -> float16 [B, ...]


def encoder(
    exp: Experiment, module: Module, function: Callable[[Module, jax.Array], jax.Array]
) -> Encode:
    """Returns `function(module, x)` as a function of x, float16, replicated on the mesh."""
    graphdef, params = nnx.split(module)

    def call(params: nnx.State, x: jax.Array) -> jax.Array:
        return function(nnx.merge(graphdef, params), x).astype(jnp.float16)

    compiled = jax.jit(call, out_shardings=meshes.replicated(exp.mesh))
    return lambda x: compiled(params, x)


def encode_rows(
    exp: Experiment, encode: Encode, load: Load, *, keys: np.ndarray, batch_size: int, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields keys [B, k] and `encode(load(keys))`; one batch is encoded as the next is loaded."""
    sharding = meshes.batch_sharding(exp.mesh)
    pending: collections.deque[tuple[np.ndarray, jax.Array]] = collections.deque()
    with tqdm.tqdm(total=len(keys), desc=f"encoding {name}") as progress:
        for start in range(0, len(keys), batch_size):
            batch = keys[start : start + batch_size]
            full = np.resize(batch, (batch_size, keys.shape[1]))  # the last batch repeats itself
            share = load(full[meshes.local_rows(sharding, batch_size)])
            x = jax.make_array_from_process_local_data(sharding, share)
            pending.append((batch, encode(x)))
            if len(pending) > 1:
                yield _fetch(*pending.popleft())
            progress.update(len(batch))
        yield from itertools.starmap(_fetch, pending)


def _fetch(keys: np.ndarray, values: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Waits for the values of a batch, and drops those that only filled it."""
    return keys, np.asarray(values)[: len(keys)]


def moments(autoencoder: AutoencoderKL, images: jax.Array) -> jax.Array:
    """Encodes uint8 [B, H, W, 3] as mean and log variance [B, h, w, 2C]."""
    return jnp.concatenate(autoencoder.moments(to_float(images)), axis=-1)


def latent_shape(encode: Encode, width: int, height: int) -> tuple[int, ...]:
    """Returns the shape [h, w, 2C] of an image's moments."""
    return jax.eval_shape(encode, jax.ShapeDtypeStruct((1, height, width, 3), np.uint8)).shape[1:]
