"""The sampler of rbjax in PyTorch, as a diffusers scheduler: a port of rbjax/diffusion.

All methods are one linear update. With noise level (a, s) now and (a', s') after the step, the
clean latents x0 that the model sees now and x1, those it saw one step before,

    x <- s'/s x + (a' - s'/s a) ((1 + c) x0 - c x1)

"ddim" and "euler" have c = 0 and visit different timesteps; "dpm++2m" is DPM-Solver++ (2M).
Besides diffusers' beta schedules there is "rectified_flow", the straight line from latents to
noise: noisy = (1 - s) latents + s noise, s = (timestep + 1) / num_train_timesteps.
"""

import math
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput

ALMOST_ZERO_SNR = 2.0**-24  # stands for a last alpha² of 0 in sigma / alpha
# Timesteps; (alpha, sigma, next alpha, next sigma, c) of every step; the first noise's factor.
Plan = tuple[np.ndarray, list[np.ndarray], float]


class RetriNetScheduler(SchedulerMixin, ConfigMixin):
    """Steps from noise to latents; configure with `from_config(scheduler.config, method=...)`."""

    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_schedule: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        prediction_type: str = "epsilon",
        rescale_betas_zero_snr: bool = False,
        timestep_spacing: str = "leading",
        steps_offset: int = 1,
        set_alpha_to_one: bool = False,
        method: str = "ddim",
        clip_sample: bool = False,
    ) -> None:
        """Takes the settings of diffusers, and `method`, "ddim", "euler" or "dpm++2m".

        `clip_sample` is for a scheduler of diffusers that is made from these settings: without it,
        some cut the latents off at 1.
        """
        self.init_noise_sigma = 1.0
        self.set_timesteps(min(20, num_train_timesteps))

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Plans the steps: `timesteps` float64 [num_inference_steps], in falling order.

        Raises:
            ValueError: unknown method, or an impossible number of steps.
        """
        if not 1 <= num_inference_steps <= self.config.num_train_timesteps:
            raise ValueError(
                f"{num_inference_steps} steps: must be 1 to {self.config.num_train_timesteps}"
            )
        if self.config.method not in ("ddim", "euler", "dpm++2m"):
            raise ValueError(f"method {self.config.method!r}: use ddim, euler or dpm++2m")
        timesteps, levels, self.init_noise_sigma = self._plan(num_inference_steps)
        if (np.diff(timesteps) >= 0).any():
            raise ValueError(
                f"{num_inference_steps} steps of {self.config.method} visit a timestep twice: "
                "take fewer"
            )
        self.levels = np.stack(levels, axis=1)  # [steps, (alpha, sigma, alpha', sigma', c)]
        self.timesteps = torch.tensor(np.asarray(timesteps, np.float32), device=device)
        self.num_inference_steps = num_inference_steps
        self._index, self._before = 0, 0.0

    def scale_model_input(
        self, sample: torch.Tensor, timestep: int | torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the sample: the model reads it as it is."""
        return sample

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[torch.Tensor]:
        """Does one step; call it once for each of `timesteps`, in their order."""
        alpha, sigma, next_alpha, next_sigma, extrapolation = (
            float(x) for x in self.levels[self._index]
        )
        clean = self._clean(model_output, sample, alpha, sigma)
        ahead = (1 + extrapolation) * clean - extrapolation * self._before
        keep = next_sigma / sigma
        self._index, self._before = self._index + 1, clean
        previous = keep * sample + (next_alpha - keep * alpha) * ahead
        return SchedulerOutput(prev_sample=previous) if return_dict else (previous,)

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Returns the noisy latents [B, ...] of the timesteps [B], integers."""
        alpha, sigma = self._columns(timesteps, noise)
        return alpha * original_samples + sigma * noise

    def target(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Returns what the model is trained to predict of the noisy latents: [B, ...]."""
        if self.config.prediction_type == "epsilon":
            return noise
        if self.config.prediction_type == "sample":
            return original_samples
        if self.is_flow:
            return noise - original_samples
        alpha, sigma = self._columns(timesteps, noise)
        return alpha * noise - sigma * original_samples

    @property
    def is_flow(self) -> bool:
        """Whether the path from latents to noise is the straight line."""
        return self.config.beta_schedule == "rectified_flow"

    def _columns(
        self, timesteps: torch.Tensor, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (alpha, sigma) of the timesteps, to multiply with [B, ...]."""
        if self.is_flow:
            sigma = np.arange(1, self.config.num_train_timesteps + 1)
            alpha, sigma = 1 - sigma / len(sigma), sigma / len(sigma)
        else:
            products = alphas_cumprod(self.config)
            alpha, sigma = np.sqrt(products), np.sqrt(1 - products)
        columns = torch.tensor(np.stack([alpha, sigma])).to(like)[:, timesteps]
        columns = columns.view(2, -1, *[1] * (like.ndim - 1))
        return columns[0], columns[1]

    def _clean(
        self, output: torch.Tensor, noisy: torch.Tensor, alpha: float, sigma: float
    ) -> torch.Tensor:
        """Returns the clean latents that a model output stands for."""
        if self.config.prediction_type == "sample":
            return output
        if self.config.prediction_type == "epsilon":
            return (noisy - sigma * output) / alpha
        return (1.0 if self.is_flow else alpha) * noisy - sigma * output

    def _plan(self, count: int) -> Plan:
        if self.is_flow:
            sigma = np.linspace(1, 0, count + 1)
            timesteps = sigma[:-1] * self.config.num_train_timesteps - 1
            return timesteps, self._connected(1 - sigma, sigma), 1.0
        method = {"ddim": self._ddim, "euler": self._euler, "dpm++2m": self._dpm}
        return method[self.config.method](count)

    def _ddim(self, count: int) -> Plan:
        timesteps = self._spaced(count)
        after = timesteps - self.config.num_train_timesteps // count
        table = alphas_cumprod(self.config)
        last = 1.0 if self.config.set_alpha_to_one else table[0]
        now, then = table[timesteps], np.where(after >= 0, table[np.maximum(after, 0)], last)
        levels = [np.sqrt(now), np.sqrt(1 - now), np.sqrt(then), np.sqrt(1 - then)]
        return timesteps, [*levels, np.zeros(count)], 1.0

    def _euler(self, count: int) -> Plan:
        if self.config.timestep_spacing == "linspace":
            timesteps = np.linspace(0, self.config.num_train_timesteps - 1, count)[::-1]
        else:
            timesteps = self._spaced(count)
        levels = self._connected(*self._levels(timesteps))
        leading = self.config.timestep_spacing == "leading"
        return timesteps, levels, 1.0 if leading else float(levels[1][0])

    def _dpm(self, count: int) -> Plan:
        if self.config.timestep_spacing == "trailing":
            timesteps = self._spaced(count)
        else:
            timesteps = self._spaced(count + 1)[:-1]
        return timesteps, self._connected(*self._levels(timesteps)), 1.0

    def _spaced(self, count: int) -> np.ndarray:
        """Returns `count` falling integer timesteps."""
        n, spacing = self.config.num_train_timesteps, self.config.timestep_spacing
        if spacing == "leading":
            steps = np.arange(count)[::-1] * (n // count) + self.config.steps_offset
            return np.minimum(steps, n - 1)
        if spacing == "trailing":
            return np.round(n - np.arange(count) * (n / count)).astype(int) - 1
        return np.round(np.linspace(0, n - 1, count))[::-1].astype(int)

    def _levels(self, timesteps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (alpha, sigma) at the timesteps and, as one entry more, at the end: (1, 0)."""
        products = alphas_cumprod(self.config)
        if self.config.rescale_betas_zero_snr:
            products[-1] = ALMOST_ZERO_SNR
        ratio = np.interp(timesteps, np.arange(len(products)), np.sqrt((1 - products) / products))
        ratio = np.append(ratio, 0.0)
        return 1 / np.sqrt(1 + ratio**2), ratio / np.sqrt(1 + ratio**2)

    def _connected(self, alpha: np.ndarray, sigma: np.ndarray) -> list[np.ndarray]:
        """Returns the levels of steps that each go to the next."""
        extrapolation = np.zeros(len(alpha) - 1)
        if self.config.method == "dpm++2m" and len(extrapolation) > 2:
            with np.errstate(divide="ignore"):  # the first level may be pure noise
                stride = np.diff(np.log(alpha[:-1]) - np.log(sigma[:-1]))
            extrapolation[1:-1] = stride[1:] / (2 * stride[:-1])
        return [alpha[:-1], sigma[:-1], alpha[1:], sigma[1:], extrapolation]


def alphas_cumprod(config: dict[str, Any]) -> np.ndarray:
    """Returns alpha² of every timestep of a variance-preserving schedule, float64."""
    products = np.cumprod(1 - _betas(config))
    if not config.rescale_betas_zero_snr:
        return products
    alpha = np.sqrt(products)
    return ((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2


def _betas(config: dict[str, Any]) -> np.ndarray:
    n = config.num_train_timesteps
    if config.beta_schedule == "linear":
        return np.linspace(config.beta_start, config.beta_end, n)
    if config.beta_schedule == "scaled_linear":
        return np.linspace(config.beta_start**0.5, config.beta_end**0.5, n) ** 2
    if config.beta_schedule != "squaredcos_cap_v2":
        raise ValueError(f"beta_schedule {config.beta_schedule!r} is not known")
    signal = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - signal[1:] / signal[:-1], 0.999)
