"""Which reference each region of a generated image was read from, and where in it (ours).

The map is the attention of RetriNet's conjunctions, averaged over heads, levels and sampling steps:
what the conditional branch (prompt and references) attended to at the latents that sampling
visited. It says where was looked, not how much of what was seen reached the image: attention always
sums to one.

Axes: N images, R references, h w regions of the image, y x regions of a reference.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rbjax.diffusion import sampler
from rbjax.inference.generation import Sampled
from rbjax.interop.saved_model import Model
from rbjax.models.batch import Batch
from rbjax.models.params import Tree, nnx_state

REGIONS = 16  # regions of a side at most
AXES = slice(1, 3), slice(4, 6)  # h w, and y x


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalMap:
    """What the regions of images read.

    Attributes:
        weights: float32 [N, h, w, R, y, x]; those of a region sum to one, or are zero where no
            reference was visible. Regions of a reference are those of the crop that the model sees.
    """

    weights: np.ndarray

    def shares(self) -> np.ndarray:
        """Returns how much a region reads from each reference, float32 [N, h, w, R]."""
        return self.weights.sum(axis=(-2, -1))

    def places(self) -> np.ndarray:
        """Returns the region (y, x) of each reference that is read most, int [N, h, w, R, 2]."""
        *shape, height, width = self.weights.shape
        best = self.weights.reshape(*shape, height * width).argmax(axis=-1)
        return np.stack(np.unravel_index(best, (height, width)), axis=-1)


def retrieval_map(model: Model, sampled: Sampled) -> RetrievalMap:
    """Returns the map of images; compiles once for their shapes and settings.

    Args:
        model: that sampled.
        sampled: of `generation.sample` with at least one reference; without one all weights are
            zero.
    """
    sampling = sampled.sampling
    steps = sampler.plan(model.schedule, sampling.steps, sampling.method)
    weights = _mean_weights(
        model.params,
        sampled.batch,
        sampled.latents,
        jnp.asarray(steps.timesteps, jnp.float32),
        graphdef=model.graphdef,
    )
    return RetrievalMap(np.asarray(weights))


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _mean_weights(
    params: Tree,
    batch: Batch,
    visited: jax.Array,
    timesteps: jax.Array,
    *,
    graphdef: nnx.GraphDef,
) -> jax.Array:
    """Returns float32 [N, h, w, R, y, x], the mean over steps and levels."""
    pipeline = nnx.merge(graphdef, nnx_state(params))
    encoded = pipeline.encode(batch)

    def of_step(step: tuple[jax.Array, jax.Array]) -> jax.Array:
        latents, timestep = step
        levels = pipeline.retrinet.retrieval_weights(
            latents,
            jnp.full(latents.shape[:1], timestep),
            prompt=encoded.prompt,
            references=encoded.references,
            concepts=encoded.concepts,
            mask=encoded.reference_mask,
        )
        target, source = (
            tuple(min(REGIONS, side) for side in levels[0].shape[axes]) for axes in AXES
        )
        regions = [_to_regions(level, target, source) for level in levels]
        return functools.reduce(jnp.add, regions) / len(levels)

    first = jax.eval_shape(of_step, (visited[0], timesteps[0]))
    add = lambda total, step: (total + of_step(step), None)  # noqa: E731
    total, _ = jax.lax.scan(add, jnp.zeros(first.shape), (visited, timesteps))
    return total / len(timesteps)


def _to_regions(weights: jax.Array, target: tuple[int, ...], source: tuple[int, ...]) -> jax.Array:
    """Returns weights [N, h, w, R, y, x] of a level on other grids, by area.

    A region reads the mean of what its places read; what a place of a reference is read is shared
    among the regions that it lies in.
    """
    (height, width), (rows, columns) = (weights.shape[axes] for axes in AXES)
    return jnp.einsum(
        "nhwryx,Hh,Ww,Yy,Xx->nHWrYX",
        weights,
        _overlap(height, target[0]),
        _overlap(width, target[1]),
        _overlap(source[0], rows).T,
        _overlap(source[1], columns).T,
    )


def _overlap(size: int, regions: int) -> np.ndarray:
    """Returns the share of a region's length that lies in each cell, float32 [regions, size]."""
    edges, cells = np.linspace(0, 1, regions + 1), np.linspace(0, 1, size + 1)
    low = np.maximum(edges[:-1, None], cells[None, :-1])
    high = np.minimum(edges[1:, None], cells[None, 1:])
    return (np.maximum(high - low, 0) * regions).astype(np.float32)
