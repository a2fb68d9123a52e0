"""From noise to latents with a trained denoiser.

All methods here are one linear update. With noise level (a, s) now and (a', s') after the step,
the clean latents x0 that the model sees now and x1, those it saw one step before,

    x <- s'/s x + (a' - s'/s a) ((1 + c) x0 - c x1)

With c = 0 this is DDIM (arXiv 2010.02502), and it is also one Euler step of the ODE, on the
straight line of rectified flow as in the sigma space of variance-preserving schedules: "ddim" and
"euler" differ by the timesteps they visit. With c = (log-SNR step) / (2 (log-SNR step before)) it
is DPM-Solver++ (2M) (arXiv 2211.01095); its first and its last step have c = 0. The last step goes
to (1, 0), so it returns x0 and never divides by a small s; DDIM's goes to the level of timestep 0
where `Schedule.set_alpha_to_one` is false, as Stable Diffusion's.

Timesteps and their rounding are those of diffusers' DDIMScheduler, EulerDiscreteScheduler (linear
interpolation) and DPMSolverMultistepScheduler. In particular DDIM steps by num_train_timesteps //
num_steps, whatever the spacing.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.diffusion import schedule as schedule_lib
from rbjax.diffusion.schedule import Schedule

METHODS = ("ddim", "euler", "dpm++2m")
Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Steps:
    """The noise levels that a sampler visits, each an array [num_steps].

    Attributes:
        timesteps: what the model is given, float.
        alpha: signal before the step.
        sigma: noise before the step.
        next_alpha: signal after the step.
        next_sigma: noise after the step.
        extrapolation: the c of the module's docstring.
        start: what standard normal noise is multiplied with before the first step.
    """

    timesteps: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    next_alpha: np.ndarray
    next_sigma: np.ndarray
    extrapolation: np.ndarray
    start: float = 1.0


def sample(
    denoise: Denoiser,
    noise: jax.Array,
    schedule: Schedule,
    *,
    num_steps: int,
    method: str = "ddim",
) -> jax.Array:
    """Returns clean latents in the shape of the noise; arguments and errors as of `trajectory`."""
    return trajectory(denoise, noise, schedule, num_steps=num_steps, method=method)[0]


def trajectory(
    denoise: Denoiser,
    noise: jax.Array,
    schedule: Schedule,
    *,
    num_steps: int,
    method: str = "ddim",
) -> tuple[jax.Array, jax.Array]:
    """Samples; jit-friendly, one compiled step for all.

    Args:
        denoise: (noisy latents [B, ...], timesteps float32[B]) -> model output [B, ...].
        noise: standard normal noise [B, ...]; the only source of chance.
        schedule: the schedule of training.
        num_steps: number of calls of `denoise`.
        method: one of METHODS.

    Returns:
        Clean latents in the shape of the noise, and what `denoise` was given at each step,
        [num_steps, B, ...].

    Raises:
        ValueError: for an unknown method or an impossible number of steps.
    """
    steps = plan(schedule, num_steps, method)
    columns = (steps.timesteps, steps.alpha, steps.sigma, steps.next_alpha, steps.next_sigma)
    table = jnp.asarray(np.stack([*columns, steps.extrapolation], axis=1), jnp.float32)

    def step(
        carry: tuple[jax.Array, jax.Array], row: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        visited, before = carry
        t, alpha, sigma, next_alpha, next_sigma, extrapolation = row
        output = denoise(visited, jnp.full(noise.shape[:1], t))
        clean = schedule_lib.predicted_latents(schedule, output, visited, alpha=alpha, sigma=sigma)
        ahead = (1 + extrapolation) * clean - extrapolation * before
        keep = next_sigma / sigma
        latents = keep * visited + (next_alpha - keep * alpha) * ahead
        return (latents.astype(noise.dtype), clean.astype(noise.dtype)), visited

    start = steps.start * noise, jnp.zeros_like(noise)
    (latents, _), visited = jax.lax.scan(step, start, table)
    return latents, visited


def plan(schedule: Schedule, num_steps: int, method: str = "ddim") -> Steps:
    """Returns the steps that `sample` takes.

    Raises:
        ValueError: for an unknown method or an impossible number of steps.
    """
    if method not in METHODS:
        raise ValueError(f"sampling method is {method!r}; it must be one of {', '.join(METHODS)}.")
    if not 1 <= num_steps <= schedule.num_train_timesteps:
        raise ValueError(
            f"number of sampling steps is {num_steps}; "
            f"it must be 1 to {schedule.num_train_timesteps}."
        )
    if schedule.is_flow:
        return _flow(schedule, num_steps, method)
    steps = {"ddim": _ddim, "euler": _euler, "dpm++2m": _dpm}[method](schedule, num_steps)
    if (np.diff(steps.timesteps) >= 0).any():
        raise ValueError(f"{num_steps} steps of {method} visit a timestep twice: take fewer")
    return steps


def _flow(schedule: Schedule, num_steps: int, method: str) -> Steps:
    """Equal steps on the line, from pure noise to none."""
    sigma = np.linspace(1, 0, num_steps + 1)
    timesteps = sigma[:-1] * schedule.num_train_timesteps - 1
    second_order = {"ddim": False, "euler": False, "dpm++2m": True}[method]
    return _connected(timesteps, 1 - sigma, sigma, second_order=second_order)


def _ddim(schedule: Schedule, num_steps: int) -> Steps:
    timesteps = _spaced(schedule, num_steps)
    after = timesteps - schedule.num_train_timesteps // num_steps
    table = schedule_lib.alphas_cumprod(schedule)
    last = 1.0 if schedule.set_alpha_to_one else table[0]
    now, then = table[timesteps], np.where(after >= 0, table[np.maximum(after, 0)], last)
    levels = np.sqrt(now), np.sqrt(1 - now), np.sqrt(then), np.sqrt(1 - then)
    return Steps(timesteps, *levels, extrapolation=np.zeros(num_steps))


def _euler(schedule: Schedule, num_steps: int) -> Steps:
    if schedule.timestep_spacing == "linspace":
        timesteps = np.linspace(0, schedule.num_train_timesteps - 1, num_steps)[::-1]
    else:
        timesteps = _spaced(schedule, num_steps)
    steps = _connected(timesteps, *_levels(schedule, timesteps))
    start = 1.0 if schedule.timestep_spacing == "leading" else float(steps.sigma[0])
    return dataclasses.replace(steps, start=start)


def _dpm(schedule: Schedule, num_steps: int) -> Steps:
    if schedule.timestep_spacing == "trailing":
        timesteps = _spaced(schedule, num_steps)
    else:  # one more, the last left out: this solver itself ends in noise level 0
        timesteps = _spaced(schedule, num_steps + 1)[:-1]
    return _connected(timesteps, *_levels(schedule, timesteps), second_order=True)


def _spaced(schedule: Schedule, count: int) -> np.ndarray:
    """Returns `count` falling integer timesteps."""
    n = schedule.num_train_timesteps
    if schedule.timestep_spacing == "leading":
        return np.minimum(np.arange(count)[::-1] * (n // count) + schedule.steps_offset, n - 1)
    if schedule.timestep_spacing == "trailing":
        return np.round(n - np.arange(count) * (n / count)).astype(int) - 1
    return np.round(np.linspace(0, n - 1, count))[::-1].astype(int)


def _levels(schedule: Schedule, timesteps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (alpha, sigma) at the timesteps and, as one entry more, at the end: (1, 0)."""
    ratio = np.interp(
        timesteps, np.arange(schedule.num_train_timesteps), schedule_lib.ratios(schedule)
    )
    ratio = np.append(ratio, 0.0)
    return 1 / np.sqrt(1 + ratio**2), ratio / np.sqrt(1 + ratio**2)


def _connected(
    timesteps: np.ndarray, alpha: np.ndarray, sigma: np.ndarray, *, second_order: bool = False
) -> Steps:
    """Makes steps of num_steps + 1 levels, each going to the next."""
    extrapolation = np.zeros(len(timesteps))
    if second_order and len(timesteps) > 2:
        with np.errstate(divide="ignore"):  # infinite if the first level is pure noise
            stride = np.diff(np.log(alpha[:-1]) - np.log(sigma[:-1]))
        extrapolation[1:-1] = stride[1:] / (2 * stride[:-1])
    return Steps(timesteps, alpha[:-1], sigma[:-1], alpha[1:], sigma[1:], extrapolation)
