"""The denoising loss: weighted squared error between what the model predicts and its target.

Two weightings besides the plain mean, each the error of a thing that every model implies:

* `velocity`: the squared error of the velocity that the prediction implies. With latents x, noise
  e and noisy latents a x + s e, an error d of the clean latents is an error d / s of the velocity,
  and an error d of the noise one of d / a, on the straight line as on the variance-preserving
  curve. Small s and a are taken as 0.2, so that the weight is at most 25 (this bound is ours).
* `min_snr`: min(SNR, 5) times the squared error of the clean latents, SNR = a² / s² (Hang et al.,
  arXiv 2303.09556). Where the schedule ends in pure noise, SNR 0, that would never train the step
  at which sampling starts: there the factor is at least 1, as in Salimans and Ho's truncated SNR
  (arXiv 2202.00512).
"""

import jax
import jax.numpy as jnp

from rbjax.diffusion import schedule as schedule_lib
from rbjax.diffusion.schedule import Schedule

WEIGHTINGS = ("uniform", "velocity", "min_snr")
SMALLEST_COEFFICIENT = 0.2
SNR_LIMIT = 5.0
EDGE = 1e-4  # of the side, less than a pixel: rounding makes no latent a part of the image
SMALLEST_SNR = 1.0  # of schedules that end in noise


def diffusion_loss(
    schedule: Schedule,
    model_output: jax.Array,
    *,
    target: jax.Array,
    timesteps: jax.Array,
    weighting: str = "uniform",
    shown: jax.Array | None = None,
) -> jax.Array:
    """Returns the loss of every example, float32[B].

    Args:
        schedule: how noise was added and what the model predicts.
        model_output: the prediction [B, ...].
        target: what it should be [B, ...], of the image (`schedule.target`) or of a teacher.
        timesteps: int[B].
        weighting: one of WEIGHTINGS.
        shown: of [B, h, w, C], what the squared error is a mean over; see `Batch.shown`.

    Raises:
        ValueError: for an unknown weighting.
    """
    error = jnp.square(jnp.asarray(model_output, jnp.float32) - jnp.asarray(target, jnp.float32))
    counted = None if shown is None else shown_latents(shown, error.shape[1:-1])[..., None]
    mean = error.mean(axis=tuple(range(1, error.ndim)), where=counted)
    return weights(schedule, timesteps, weighting) * mean


def shown_latents(shown: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the latents that hold anything of what is shown, bool [B, h, w].

    Args:
        shown: float32 [B, 4], see `Batch.shown`.
        shape: h, w.
    """

    def along(size: int, start: jax.Array, stop: jax.Array) -> jax.Array:
        edges = jnp.arange(size + 1) / size
        return (edges[1:] > start[:, None] + EDGE) & (edges[:-1] < stop[:, None] - EDGE)

    height, width = shape
    left, top, right, bottom = shown.T
    return along(height, top, bottom)[:, :, None] & along(width, left, right)[:, None, :]


def weights(schedule: Schedule, timesteps: jax.Array, weighting: str) -> jax.Array:
    """Returns the factor of the squared error of every example, float32[B]."""
    if weighting not in WEIGHTINGS:
        raise ValueError(
            f"loss weighting is {weighting!r}; it must be one of {', '.join(WEIGHTINGS)}."
        )
    alpha, sigma = schedule_lib.coefficients(schedule, timesteps)
    if weighting == "uniform":
        return jnp.ones_like(alpha)
    if weighting == "velocity":
        return _velocity_weights(schedule.prediction_type, alpha, sigma)
    return _min_snr_weights(schedule, alpha, sigma)


def _velocity_weights(prediction_type: str, alpha: jax.Array, sigma: jax.Array) -> jax.Array:
    if prediction_type == "v_prediction":
        return jnp.ones_like(alpha)
    divisor = sigma if prediction_type == "sample" else alpha
    return 1 / jnp.maximum(divisor, SMALLEST_COEFFICIENT) ** 2


def _min_snr_weights(schedule: Schedule, alpha: jax.Array, sigma: jax.Array) -> jax.Array:
    snr = (alpha / sigma) ** 2
    if schedule.prediction_type == "epsilon":  # such a schedule never ends in noise
        return jnp.minimum(1.0, SNR_LIMIT / snr)
    smallest = SMALLEST_SNR if schedule.ends_in_noise else 0.0
    limited = jnp.clip(snr, smallest, SNR_LIMIT)
    return limited if schedule.prediction_type == "sample" else limited * sigma**2
