"""Noise schedules: how much of a noisy latent is signal, and what a model predicts of it.

Every schedule is a pair of numbers for each timestep, `alpha` and `sigma`:

    noisy = alpha * latents + sigma * noise

The variance-preserving ones (`scaled_linear`, `linear`, `squaredcos_cap_v2`: DDPM, Stable
Diffusion and iDDPM) have alpha² + sigma² = 1 and follow the formulas of diffusers.
`rectified_flow` (Liu et al., arXiv 2209.03003) is the straight line with sigma = s and
alpha = 1 - s, s = (timestep + 1) / num_train_timesteps.

What the model predicts (`prediction_type`):

* `epsilon`: the noise;
* `sample`: the clean latents;
* `v_prediction`: the velocity, alpha * noise - sigma * latents (arXiv 2202.00512), and with
  `rectified_flow` the slope of the line, noise - latents.

Axes: B examples; `...` stands for any further axes of the latents. Timesteps are [B], from 0
(least noise) to num_train_timesteps - 1, and may be traced. Integers read the table; other numbers
lie on the line between its entries (of sigma / alpha, as in Euler sampling).
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.models.config_files import known_fields

BETAS = ("scaled_linear", "linear", "squaredcos_cap_v2", "rectified_flow")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")
ALMOST_ZERO_SNR = 2.0**-24  # stands for a last alpha² of 0 in sigma / alpha (diffusers)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Settings of a noise schedule; the defaults are those of Stable Diffusion 1.5.

    Attributes:
        betas: kind of schedule, one of BETAS.
        num_train_timesteps: number of noise levels.
        beta_start: first beta of the two linear kinds.
        beta_end: last beta of the two linear kinds.
        prediction_type: what the model predicts, one of PREDICTIONS.
        rescale_betas_zero_snr: make the last level pure noise (arXiv 2305.08891).
        timestep_spacing: how a sampler picks its timesteps, one of SPACINGS (table 2 of the same
            paper).
        steps_offset: added to the sampler's timesteps with "leading" spacing.
        set_alpha_to_one: whether DDIM's last step goes to noise level 0 instead of that of
            timestep 0.

    Raises:
        ValueError: for an unknown name, or for noise prediction where the last level is pure noise.
    """

    betas: str = "scaled_linear"
    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    prediction_type: str = "epsilon"
    rescale_betas_zero_snr: bool = False
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False

    def __post_init__(self) -> None:
        _one_of("betas", self.betas, BETAS)
        _one_of("prediction_type", self.prediction_type, PREDICTIONS)
        _one_of("timestep_spacing", self.timestep_spacing, SPACINGS)
        if self.ends_in_noise and self.prediction_type == "epsilon":
            raise ValueError(
                "prediction_type 'epsilon' says nothing about the latents where the last timestep "
                "is pure noise (betas 'rectified_flow', or rescale_betas_zero_snr): use 'sample' "
                "or 'v_prediction'."
            )

    @property
    def is_flow(self) -> bool:
        """Whether the path from latents to noise is the straight line."""
        return self.betas == "rectified_flow"

    @property
    def ends_in_noise(self) -> bool:
        """Whether nothing of the latents is left at the last timestep."""
        return self.is_flow or self.rescale_betas_zero_snr

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """Reads the `scheduler_config.json` of a diffusers folder; leaves out what is unknown.

        Raises:
            ValueError: an unknown name, betas of its own, or a schedule of another kind.
        """
        kind = config.get("_class_name", "DDIMScheduler")
        if config.get("trained_betas") is not None or kind.startswith("FlowMatch"):
            raise ValueError(f"{kind}: trained_betas and other models' flows are not supported")
        spacing = "leading" if kind in _LEADING else "linspace"
        defaults: dict[str, Any] = {
            **_DIFFUSERS_DEFAULTS,
            "timestep_spacing": spacing,
            "set_alpha_to_one": kind != "PNDMScheduler",
        }
        known: dict[str, Any] = {**defaults, **known_fields(cls, config)}
        return cls(**{**known, "betas": config.get("beta_schedule", "linear")})


_LEADING = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler")  # if not said
_DIFFUSERS_DEFAULTS: dict[str, Any] = dict(
    beta_start=0.0001,
    beta_end=0.02,
    steps_offset=0,
)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")


@functools.lru_cache(maxsize=16)
def alphas_cumprod(schedule: Schedule) -> np.ndarray:
    """Returns alpha² of every timestep, float64[num_train_timesteps]."""
    if schedule.is_flow:
        return (
            1 - np.arange(1, schedule.num_train_timesteps + 1) / schedule.num_train_timesteps
        ) ** 2
    products = np.cumprod(1 - _betas(schedule))
    return _zero_terminal_snr(products) if schedule.rescale_betas_zero_snr else products


def _betas(schedule: Schedule) -> np.ndarray:
    n = schedule.num_train_timesteps
    if schedule.betas == "linear":
        return np.linspace(schedule.beta_start, schedule.beta_end, n)
    if schedule.betas == "scaled_linear":
        return np.linspace(schedule.beta_start**0.5, schedule.beta_end**0.5, n) ** 2
    signal = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - signal[1:] / signal[:-1], 0.999)


def _zero_terminal_snr(products: np.ndarray) -> np.ndarray:
    """Shifts and scales alpha: last 0, first as it was (arXiv 2305.08891, algorithm 1)."""
    alpha = np.sqrt(products)
    return ((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2


def coefficients(schedule: Schedule, timesteps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (alpha, sigma), each float32 in the shape of the timesteps."""
    timesteps = jnp.asarray(timesteps)
    if schedule.is_flow:
        sigma = (timesteps.astype(jnp.float32) + 1) / schedule.num_train_timesteps
        return 1 - sigma, sigma
    table = alphas_cumprod(schedule)
    if jnp.issubdtype(timesteps.dtype, jnp.integer):
        alpha = jnp.asarray(np.sqrt(table), jnp.float32)[timesteps]
        return alpha, jnp.asarray(np.sqrt(1 - table), jnp.float32)[timesteps]
    ratio = jnp.interp(
        timesteps, jnp.arange(len(table)), jnp.asarray(ratios(schedule), jnp.float32)
    )
    alpha = 1 / jnp.sqrt(1 + ratio**2)
    return alpha, ratio * alpha


def ratios(schedule: Schedule) -> np.ndarray:
    """Returns sigma / alpha of every timestep of a variance-preserving schedule, always finite."""
    products = alphas_cumprod(schedule).copy()
    if schedule.rescale_betas_zero_snr:
        products[-1] = ALMOST_ZERO_SNR
    return np.sqrt((1 - products) / products)


def add_noise(
    schedule: Schedule, latents: jax.Array, *, noise: jax.Array, timesteps: jax.Array
) -> jax.Array:
    """Returns the noisy latents [B, ...] of the given timesteps [B]."""
    alpha, sigma = _columns(schedule, timesteps, latents.ndim)
    return alpha * latents + sigma * noise


def velocity(
    schedule: Schedule, latents: jax.Array, *, noise: jax.Array, timesteps: jax.Array
) -> jax.Array:
    """Returns the velocity [B, ...] that a `v_prediction` model is to predict."""
    if schedule.is_flow:
        return noise - latents
    alpha, sigma = _columns(schedule, timesteps, latents.ndim)
    return alpha * noise - sigma * latents


def target(
    schedule: Schedule, latents: jax.Array, *, noise: jax.Array, timesteps: jax.Array
) -> jax.Array:
    """Returns what the model is to predict [B, ...]: the noise, the velocity or the latents."""
    if schedule.prediction_type == "epsilon":
        return noise
    if schedule.prediction_type == "sample":
        return latents
    return velocity(schedule, latents, noise=noise, timesteps=timesteps)


def predicted_latents(
    schedule: Schedule,
    model_output: jax.Array,
    noisy: jax.Array,
    *,
    alpha: jax.Array,
    sigma: jax.Array,
) -> jax.Array:
    """Returns the clean latents [B, ...] that a model output stands for.

    Args:
        schedule: what the model predicts.
        model_output: the prediction [B, ...].
        noisy: what it was predicted from [B, ...].
        alpha: of the noisy latents, a scalar or broadcastable to them.
        sigma: as alpha.
    """
    if schedule.prediction_type == "sample":
        return model_output
    if schedule.prediction_type == "epsilon":
        return (noisy - sigma * model_output) / alpha
    return (1.0 if schedule.is_flow else alpha) * noisy - sigma * model_output


def _columns(schedule: Schedule, timesteps: jax.Array, ndim: int) -> tuple[jax.Array, jax.Array]:
    """Returns alpha and sigma as [B, 1, ...]."""
    alpha, sigma = coefficients(schedule, timesteps)
    shape = alpha.shape + (1,) * (ndim - alpha.ndim)
    return alpha.reshape(shape), sigma.reshape(shape)
