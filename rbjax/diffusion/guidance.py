"""Sampling of images with separate guidance for references and prompt (ours)."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from rbjax.diffusion import sampler
from rbjax.diffusion.schedule import Schedule
from rbjax.models.batch import Batch, EncodedBatch
from rbjax.models.params import Tree, nnx_state
from rbjax.models.retrinet import References, RetriNet
from rbjax.parallel import rules

GUIDANCE = ("guidance_references", "guidance_prompt")
FIXED = ((2, 3), (2, 2), (1, 2), (1, 1), (2, 0), (1, 0), (0, 0))  # of each set of weights not zero


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes:
        steps: calls of the model.
        method: see diffusion/sampler.py.
        guidance_references: 1 = off; above 1 away from the prediction without references.
        guidance_prompt: 1 = off; above 1 away from the prediction without prompt.

    Raises:
        ValueError: a guidance is not a finite number.
    """

    steps: int
    method: str
    guidance_references: float
    guidance_prompt: float

    def __post_init__(self) -> None:
        for name in GUIDANCE:
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a finite number")

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Sampling":
        """Reads the experiment's `sampling` section."""
        return cls(**dict(config))

    def with_guidance(self, references: float, prompt: float) -> "Sampling":
        """Returns the same settings with other guidance."""
        return dataclasses.replace(self, guidance_references=references, guidance_prompt=prompt)

    def weights(self) -> tuple[float, float, float]:
        """Returns the weights of the predictions from neither, references only, and both.

        With u, r, f: u + guidance_references (r - u) + guidance_prompt (f - r).
        """
        for_references, for_prompt = self.guidance_references, self.guidance_prompt
        return 1 - for_references, for_references - for_prompt, for_prompt

    def fixed_guidance(self) -> "Sampling":
        """Returns settings whose weights are zero where these are: one for all of one program."""
        kept = [bool(weight) for weight in self.weights()]
        options = (self.with_guidance(*guidance) for guidance in FIXED)
        return next(option for option in options if list(map(bool, option.weights())) == kept)


def make_generate(
    graphdef: nnx.GraphDef,
    *,
    schedule: Schedule,
    sampling: Sampling,
    empty_prompt: jax.Array,
    on_step: Callable[[], None] | None = None,
) -> Callable[[Tree, Batch, jax.Array], jax.Array]:
    """Returns generate(params, batch, seeds) -> images float32 [B, H, W, 3] in [-1, 1], to jit.

    Arguments as of `make_traced_generate`.
    """
    traced = make_traced_generate(
        graphdef, schedule=schedule, sampling=sampling, empty_prompt=empty_prompt, on_step=on_step
    )
    return lambda params, batch, seeds: traced(params, batch, seeds)[0]


def make_traced_generate(
    graphdef: nnx.GraphDef,
    *,
    schedule: Schedule,
    sampling: Sampling,
    empty_prompt: jax.Array,
    on_step: Callable[[], None] | None = None,
    weights: jax.Array | None = None,
) -> Callable[[Tree, Batch, jax.Array], tuple[jax.Array, jax.Array]]:
    """Returns generate(params, batch, seeds) -> (images, latents), to jit.

    The images are float32 [B, H, W, 3] in [-1, 1], the latents those that the model was given at
    each step, [steps, B, h, w, C]. An image depends on its own references, prompt and seed, not on
    the others of its batch. Of the batch's targets only the shape is read, and its prompts are
    token ids.

    Args:
        graphdef: of the pipeline.
        schedule: of training.
        sampling: settings.
        empty_prompt: int32 [T], ids of the dropped prompt.
        on_step: called on the host at every step, also when jitted.
        weights: those of `Sampling.weights` that are not zero, in place of `sampling`'s own: may be
            traced, so that other guidance is the same program.
    """

    def generate(params: Tree, batch: Batch, seeds: jax.Array) -> tuple[jax.Array, jax.Array]:
        pipeline = nnx.merge(graphdef, nnx_state(rules.gather(params)))
        own, variants = zip(*guidance_variants(batch, empty_prompt, sampling), strict=True)
        encoded = pipeline.encode(_join(variants))
        denoise = _guide(pipeline.retrinet, encoded, own if weights is None else list(weights))
        if on_step is not None:
            denoise = _with_callback(denoise, on_step)
        noise = _noise(seeds, encoded.latents.shape[1:])
        latents, visited = sampler.trajectory(
            denoise, noise, schedule, num_steps=sampling.steps, method=sampling.method
        )
        return pipeline.decode_latents(latents), visited

    return generate


def _with_callback(denoise: sampler.Denoiser, on_step: Callable[[], None]) -> sampler.Denoiser:
    def denoise_and_call(latents: jax.Array, timesteps: jax.Array) -> jax.Array:
        jax.debug.callback(on_step)
        return denoise(latents, timesteps)

    return denoise_and_call


def guidance_variants(
    batch: Batch, empty_prompt: jax.Array, sampling: Sampling
) -> list[tuple[float, Batch]]:
    """Returns (weight, batch) pairs: the prediction is the weighted sum over the batches.

    The batches are those of `Sampling.weights`; those of weight 0 are left out.
    """
    prompt = jnp.broadcast_to(empty_prompt, batch.prompt.shape)
    no_prompt = dataclasses.replace(batch, prompt=prompt)
    mask = jnp.zeros_like(batch.reference_mask)
    unconditional = dataclasses.replace(no_prompt, reference_mask=mask)
    weighted = zip(sampling.weights(), (unconditional, no_prompt, batch), strict=True)
    return [(weight, variant) for weight, variant in weighted if weight]


def _join(variants: Sequence[Batch]) -> Batch:
    """Joins V variants of a batch: prompts and masks of all [V*B, ...], the rest of one [B, ...].

    What the variants share is encoded once.
    """
    return dataclasses.replace(
        variants[0],
        prompt=jnp.concatenate([variant.prompt for variant in variants]),
        reference_mask=jnp.concatenate([variant.reference_mask for variant in variants]),
    )


def _noise(seeds: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns standard normal noise [B, *shape], each example's from its own seed."""
    return jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), shape))(seeds)


def _guide(
    retrinet: RetriNet, encoded: EncodedBatch, weights: Sequence[float | jax.Array]
) -> sampler.Denoiser:
    """Returns the weighted sum over joined variants as a denoiser: one call of the model a step.

    The variants share the references' keys and values. With `reference_timestep` "zero" these are
    the same at every step and computed here.
    """
    count = len(weights)

    def keys_values(timesteps: jax.Array) -> References:
        found = retrinet.encode_references(encoded.references, encoded.concepts, timesteps)
        return jax.tree.map(lambda x: jnp.tile(x, (count, 1, 1)), found)

    fixed = None
    if retrinet.config.reference_timestep == "zero":
        fixed = keys_values(jnp.zeros(encoded.references.shape[0]))

    def denoise(latents: jax.Array, timesteps: jax.Array) -> jax.Array:
        x, t = jnp.tile(latents, (count, 1, 1, 1)), jnp.tile(timesteps, count)
        references = fixed or keys_values(timesteps)
        outputs = retrinet.denoise(
            x, t, prompt=encoded.prompt, references=references, mask=encoded.reference_mask
        )
        parts = zip(weights, jnp.split(outputs, count), strict=True)
        start = jnp.zeros((), outputs.dtype)
        return sum((weight * output for weight, output in parts), start)

    return denoise
