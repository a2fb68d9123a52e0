"""The loss: closed forms of its weightings."""

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.diffusion import loss as losses
from rbjax.diffusion import schedule as schedules
from rbjax.diffusion.schedule import Schedule

TIMESTEPS = np.array([250, 400, 600, 720])
SCHEDULES = [
    Schedule(),
    Schedule(prediction_type="sample"),
    Schedule(prediction_type="v_prediction"),
    Schedule(betas="rectified_flow", prediction_type="sample"),
    Schedule(betas="rectified_flow", prediction_type="v_prediction"),
]


def example():
    return np.random.default_rng(0).normal(size=(3, 4, 3, 5, 2)).astype(np.float32)


def per_example(error):
    return np.mean(np.square(error), axis=(1, 2, 3))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weighting", losses.WEIGHTINGS)
def test_a_perfect_prediction_costs_nothing(schedule, weighting):
    latents, noise, _ = example()
    output = schedules.target(schedule, latents, noise, TIMESTEPS)
    loss = losses.diffusion_loss(schedule, output, latents, noise, TIMESTEPS, weighting)
    np.testing.assert_array_equal(loss, np.zeros(4))


def test_uniform_weighting_is_the_mean_squared_error():
    latents, noise, output = example()
    loss = losses.diffusion_loss(Schedule(), output, latents, noise, TIMESTEPS)
    np.testing.assert_allclose(loss, per_example(output - noise), rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_velocity_weighting_is_the_error_of_the_implied_velocity(schedule):
    latents, noise, output = example()
    noisy = schedules.add_noise(schedule, latents, noise, TIMESTEPS)
    clean = schedules.to_sample(schedule, output, noisy, TIMESTEPS)
    epsilon = schedules.to_epsilon(schedule, output, noisy, TIMESTEPS)
    implied = schedules.velocity(schedule, clean, epsilon, TIMESTEPS)
    error = implied - schedules.velocity(schedule, latents, noise, TIMESTEPS)
    loss = losses.diffusion_loss(schedule, output, latents, noise, TIMESTEPS, "velocity")
    np.testing.assert_allclose(loss, per_example(error), rtol=1e-3)


def test_velocity_weighting_is_bounded_where_noise_vanishes():
    flow = SCHEDULES[3]
    weights = losses.weights(flow, jnp.array([0, 198, 199, 999]), "velocity")
    np.testing.assert_allclose(weights, [25, 25, 25, 1], rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_min_snr_weighting_is_the_limited_error_of_the_clean_latents(schedule):
    latents, noise, output = example()
    noisy = schedules.add_noise(schedule, latents, noise, TIMESTEPS)
    error = schedules.to_sample(schedule, output, noisy, TIMESTEPS) - latents
    alpha, sigma = schedules.coefficients(schedule, TIMESTEPS)
    limited = np.minimum(np.square(alpha / sigma), 5.0)
    loss = losses.diffusion_loss(schedule, output, latents, noise, TIMESTEPS, "min_snr")
    np.testing.assert_allclose(loss, limited * per_example(error), rtol=1e-3)


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="weighting is 'snr'"):
        losses.weights(Schedule(), jnp.array([0]), "snr")
