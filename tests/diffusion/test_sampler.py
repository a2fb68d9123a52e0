"""Samplers: step by step against diffusers, and what a perfect denoiser reaches."""

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rbjax.diffusion import sampler
from rbjax.diffusion import schedule as schedule_lib
from rbjax.diffusion.schedule import Schedule

SHAPE = (2, 3, 5, 4)
GRIDS = [("leading", 7), ("leading", 11), ("trailing", 7), ("linspace", 11)]


def outputs(num_steps: int) -> np.ndarray:
    return np.random.default_rng(num_steps).normal(size=(num_steps, *SHAPE)).astype(np.float32)


def settings(schedule: Schedule) -> dict:
    return dict(
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.betas,
        prediction_type=schedule.prediction_type,
        rescale_betas_zero_snr=schedule.rescale_betas_zero_snr,
        timestep_spacing=schedule.timestep_spacing,
        steps_offset=schedule.steps_offset,
    )


def expected(oracle, num_steps: int, noise: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Runs diffusers with one random model output a step; returns the end and the timesteps."""
    oracle.set_timesteps(num_steps)
    x = torch.tensor(noise) * oracle.init_noise_sigma
    for t, output in zip(oracle.timesteps, outputs(num_steps), strict=True):
        oracle.scale_model_input(x, t)
        x = oracle.step(torch.tensor(output), t, x).prev_sample
    return x.numpy(), [float(t) for t in oracle.timesteps]


def ours(schedule: Schedule, num_steps: int, method: str, noise: np.ndarray):
    """Runs our sampler with the same outputs, found by the timestep that it is told."""
    timesteps = jnp.asarray(sampler.plan(schedule, num_steps, method).timesteps, jnp.float32)
    table = jnp.asarray(outputs(num_steps))

    def denoise(latents, t):
        return table[jnp.argmin(jnp.abs(timesteps - t[0]))]

    run = jax.jit(
        lambda x: sampler.sample(denoise, x, schedule, num_steps=num_steps, method=method)
    )
    return run(noise), timesteps


def check(oracle, schedule, num_steps, method):
    noise = np.random.default_rng(99).normal(size=SHAPE).astype(np.float32)
    want, want_timesteps = expected(oracle, num_steps, noise)
    got, timesteps = ours(schedule, num_steps, method, noise)
    np.testing.assert_allclose(timesteps, want_timesteps, rtol=1e-6)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("spacing, num_steps", GRIDS)
@pytest.mark.parametrize("prediction", schedule_lib.PREDICTIONS)
def test_ddim_equals_diffusers(prediction, spacing, num_steps):
    schedule = Schedule(prediction_type=prediction, timestep_spacing=spacing)
    oracle = diffusers.DDIMScheduler(
        **settings(schedule), clip_sample=False, set_alpha_to_one=schedule.set_alpha_to_one
    )
    check(oracle, schedule, num_steps, "ddim")


@pytest.mark.parametrize("betas", ["scaled_linear", "linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_ddim_with_zero_terminal_snr_equals_diffusers(prediction, betas):
    schedule = Schedule(
        betas=betas,
        prediction_type=prediction,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    oracle = diffusers.DDIMScheduler(**settings(schedule), clip_sample=False)
    check(oracle, schedule, 7, "ddim")


@pytest.mark.parametrize("spacing, num_steps", GRIDS)
@pytest.mark.parametrize(
    "prediction", ["epsilon", "v_prediction"]
)  # diffusers' Euler knows no other
def test_euler_equals_diffusers(prediction, spacing, num_steps):
    schedule = Schedule(prediction_type=prediction, timestep_spacing=spacing)
    oracle = diffusers.EulerDiscreteScheduler(**settings(schedule))
    check(oracle, schedule, num_steps, "euler")


@pytest.mark.parametrize("spacing, num_steps", [*GRIDS, ("linspace", 16)])
@pytest.mark.parametrize("prediction", schedule_lib.PREDICTIONS)
def test_dpm_solver_equals_diffusers(prediction, spacing, num_steps):
    schedule = Schedule(prediction_type=prediction, timestep_spacing=spacing)
    oracle = diffusers.DPMSolverMultistepScheduler(**settings(schedule))
    check(oracle, schedule, num_steps, "dpm++2m")


def test_levels_with_almost_no_signal_equal_diffusers():
    schedule = Schedule(
        betas="squaredcos_cap_v2", num_train_timesteps=997, timestep_spacing="trailing"
    )
    sizes = settings(schedule) | {"num_train_timesteps": 997}
    check(diffusers.DPMSolverMultistepScheduler(**sizes), schedule, 3, "dpm++2m")


@pytest.mark.parametrize("num_steps", [1, 15])
def test_halves_are_rounded_as_diffusers_does(num_steps):
    schedule = Schedule(num_train_timesteps=500, timestep_spacing="linspace", set_alpha_to_one=True)
    sizes = settings(schedule) | {"num_train_timesteps": 500, "clip_sample": False}
    check(diffusers.DDIMScheduler(**sizes), schedule, num_steps, "ddim")


def test_rectified_flow_equals_the_euler_steps_of_diffusers():
    schedule = Schedule(betas="rectified_flow", prediction_type="v_prediction")
    noise = np.random.default_rng(99).normal(size=SHAPE).astype(np.float32)
    oracle = diffusers.FlowMatchEulerDiscreteScheduler()
    oracle.set_timesteps(sigmas=np.linspace(1, 0, 12)[:-1])
    x = torch.tensor(noise)
    for t, output in zip(oracle.timesteps, outputs(11), strict=True):
        x = oracle.step(torch.tensor(output), t, x).prev_sample
    got, timesteps = ours(schedule, 11, "euler", noise)
    np.testing.assert_allclose(timesteps, oracle.timesteps - 1, rtol=1e-4)
    np.testing.assert_allclose(got, x, atol=1e-4)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
@pytest.mark.parametrize("method", sampler.METHODS)
@pytest.mark.parametrize("betas", ["scaled_linear", "rectified_flow"])
def test_a_denoiser_that_knows_the_answer_reaches_it(betas, method, num_steps):
    schedule = Schedule(betas=betas, prediction_type="sample", set_alpha_to_one=True)
    noise, answer = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    got = sampler.sample(
        lambda x, t: jnp.asarray(answer), noise, schedule, num_steps=num_steps, method=method
    )
    np.testing.assert_allclose(got, answer, atol=1e-5)


@pytest.mark.parametrize("method", sampler.METHODS)
def test_more_steps_come_closer_to_the_flow_of_a_gaussian(method):
    """For normal data of scale 0.5 the best denoiser is known; its flow takes z to 0.5 z."""
    schedule = Schedule(betas="rectified_flow", prediction_type="sample")
    noise = np.linspace(-2, 2, 9, dtype=np.float32)[:, None]

    def best(x, t):
        s = (t[:, None] + 1) / 1000
        return x * (1 - s) * 0.25 / ((1 - s) ** 2 * 0.25 + s**2)

    errors = [
        np.abs(
            sampler.sample(best, noise, schedule, num_steps=steps, method=method) - 0.5 * noise
        ).max()
        for steps in (8, 32)
    ]
    assert errors[1] < errors[0] / 2 and errors[1] < 0.05


def test_wrong_methods_and_step_numbers_are_refused():
    with pytest.raises(ValueError, match="method is 'heun'"):
        sampler.plan(Schedule(), 10, "heun")
    with pytest.raises(ValueError, match="1 to 1000"):
        sampler.plan(Schedule(), 0)
    with pytest.raises(ValueError, match="1000 steps of dpm.* visit a timestep twice"):
        sampler.plan(Schedule(timestep_spacing="leading", steps_offset=1), 1000, "dpm++2m")
