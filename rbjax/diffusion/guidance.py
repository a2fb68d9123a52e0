"""A batch to images: sampling with separate guidance for references and prompt."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from rbjax.diffusion import sampler
from rbjax.diffusion.schedule import Schedule
from rbjax.models.params import nnx_state
from rbjax.models.retrinet import References


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes:
        steps: calls of the model.
        method: see diffusion/sampler.py.
        guidance_references: 1 = off; above, further away from the model without references.
        guidance_prompt: 1 = off; above, further away from the model without prompt.

    Raises:
        ValueError: a guidance is not a finite number.
    """

    steps: int
    method: str
    guidance_references: float
    guidance_prompt: float

    def __post_init__(self):
        for name in ("guidance_references", "guidance_prompt"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a finite number")

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Sampling":
        """Reads the experiment's `sampling` section."""
        return cls(**dict(config))


def make_generate(
    graphdef: nnx.GraphDef,
    schedule: Schedule,
    sampling: Sampling,
    empty_prompt: jax.Array,
    on_step: Callable[[], None] | None = None,
) -> Callable[[dict, dict, jax.Array], jax.Array]:
    """Returns generate(params, batch, seeds) -> images float32 [B, H, W, 3] in [-1, 1], to jit.

    An image depends on its own references, prompt and seed alone, not on its batch.

    Args:
        graphdef: of the pipeline.
        schedule: of training.
        sampling: settings.
        empty_prompt: int32 [T], ids of the dropped prompt.
        on_step: called on the host at every step, also when jitted.
    """

    def generate(params: dict, batch: dict, seeds: jax.Array) -> jax.Array:
        pipeline = nnx.merge(graphdef, nnx_state(params))
        noise = _noise(seeds, jax.eval_shape(pipeline.encode_images, batch["image"]).shape)
        variants = guidance_variants(batch, empty_prompt, sampling)
        denoise = _guided(pipeline, batch, variants)
        if on_step is not None:
            denoise = _announced(denoise, on_step)
        latents = sampler.sample(denoise, noise, schedule, sampling.steps, sampling.method)
        return pipeline.decode_latents(latents)

    return generate


def _announced(denoise: sampler.Denoiser, on_step: Callable[[], None]) -> sampler.Denoiser:
    def announced(latents: jax.Array, timesteps: jax.Array) -> jax.Array:
        jax.debug.callback(on_step)
        return denoise(latents, timesteps)

    return announced


def guidance_variants(
    batch: dict, empty_prompt: jax.Array, sampling: Sampling
) -> list[tuple[float, dict]]:
    """[(weight, batch)]: the prediction is the weighted sum over the batches.

    With u = neither, r = references only, f = both:
    u + guidance_references (r - u) + guidance_prompt (f - r). Batches of weight 0 are left out.
    """
    no_prompt = {**batch, "prompt_ids": jnp.broadcast_to(empty_prompt, batch["prompt_ids"].shape)}
    nothing = {**no_prompt, "reference_mask": jnp.zeros_like(batch["reference_mask"])}
    references, prompt = sampling.guidance_references, sampling.guidance_prompt
    weighted = [(1 - references, nothing), (references - prompt, no_prompt), (prompt, batch)]
    return [(weight, variant) for weight, variant in weighted if weight]


def _noise(seeds: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise, each example of its own seed: [B, h, w, C]."""
    return jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), shape[1:]))(seeds)


def _guided(
    pipeline: nnx.Module, batch: dict, variants: list[tuple[float, dict]]
) -> sampler.Denoiser:
    """All variants in one call of the model, joined along the batch.

    The variants share the references' keys and values, so these are computed once.
    """
    count = len(variants)
    ids, mask = (
        jnp.concatenate([variant[name] for _, variant in variants])
        for name in ("prompt_ids", "reference_mask")
    )
    prompt = pipeline.encode_text(ids)
    concepts = pipeline.encode_text(batch["concept_ids"])
    images = pipeline.encode_images(batch["references"])
    retrinet = pipeline.retrinet

    def keys_values(timesteps: jax.Array) -> References:
        encoded = retrinet.encode_references(images, concepts, timesteps)
        return jax.tree.map(lambda x: jnp.tile(x, (count, 1, 1)), encoded)

    once = None
    if retrinet.config.reference_timestep == "zero":
        once = keys_values(jnp.zeros(images.shape[0]))

    def denoise(latents: jax.Array, timesteps: jax.Array) -> jax.Array:
        x, t = jnp.tile(latents, (count, 1, 1, 1)), jnp.tile(timesteps, count)
        outputs = retrinet.denoise(x, t, prompt, once or keys_values(timesteps), mask)
        parts = zip(variants, jnp.split(outputs, count), strict=True)
        return sum(weight * output for (weight, _), output in parts)

    return denoise
