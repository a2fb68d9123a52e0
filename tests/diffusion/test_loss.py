"""The loss: closed forms of its weightings."""

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.diffusion import loss as loss_lib
from rbjax.diffusion import schedule as schedule_lib
from rbjax.diffusion.schedule import Schedule

TIMESTEPS = np.array([250, 400, 600, 720])
SCHEDULES = [
    Schedule(),
    Schedule(prediction_type="sample"),
    Schedule(prediction_type="v_prediction"),
    Schedule(betas="rectified_flow", prediction_type="sample"),
    Schedule(betas="rectified_flow", prediction_type="v_prediction"),
    Schedule(prediction_type="v_prediction", rescale_betas_zero_snr=True),
]


def example():
    return np.random.default_rng(0).normal(size=(3, 4, 3, 5, 2)).astype(np.float32)


def levels(schedule):
    """Returns alpha and sigma of the examples, [4, 1, 1, 1]."""
    return (x.reshape(-1, 1, 1, 1) for x in schedule_lib.coefficients(schedule, TIMESTEPS))


def loss_of(schedule, output, *, latents, noise, timesteps=TIMESTEPS, **settings):
    target = schedule_lib.target(schedule, latents, noise=noise, timesteps=timesteps)
    return loss_lib.diffusion_loss(schedule, output, target=target, timesteps=timesteps, **settings)


def per_example(error):
    return np.mean(np.square(error), axis=(1, 2, 3))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weighting", loss_lib.WEIGHTINGS)
def test_a_perfect_prediction_costs_nothing(schedule, weighting):
    latents, noise, _ = example()
    output = schedule_lib.target(schedule, latents, noise=noise, timesteps=TIMESTEPS)
    loss = loss_of(schedule, output, latents=latents, noise=noise, weighting=weighting)
    np.testing.assert_array_equal(loss, np.zeros(4))


def test_uniform_weighting_is_the_mean_squared_error():
    latents, noise, output = example()
    loss = loss_of(Schedule(), output, latents=latents, noise=noise)
    np.testing.assert_allclose(loss, per_example(output - noise), rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_velocity_weighting_is_the_error_of_the_implied_velocity(schedule):
    latents, noise, output = example()
    noisy = schedule_lib.add_noise(schedule, latents, noise=noise, timesteps=TIMESTEPS)
    alpha, sigma = levels(schedule)
    clean = schedule_lib.predicted_latents(schedule, output, noisy, alpha=alpha, sigma=sigma)
    is_epsilon = schedule.prediction_type == "epsilon"
    epsilon = output if is_epsilon else (noisy - alpha * clean) / sigma
    implied = schedule_lib.velocity(schedule, clean, noise=epsilon, timesteps=TIMESTEPS)
    error = implied - schedule_lib.velocity(schedule, latents, noise=noise, timesteps=TIMESTEPS)
    loss = loss_of(schedule, output, latents=latents, noise=noise, weighting="velocity")
    np.testing.assert_allclose(loss, per_example(error), rtol=1e-3)


def test_velocity_weighting_is_bounded_where_noise_vanishes():
    flow = SCHEDULES[3]
    weights = loss_lib.weights(flow, jnp.array([0, 198, 199, 999]), "velocity")
    np.testing.assert_allclose(weights, [25, 25, 25, 1], rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_min_snr_weighting_is_the_limited_error_of_the_clean_latents(schedule):
    latents, noise, output = example()
    noisy = schedule_lib.add_noise(schedule, latents, noise=noise, timesteps=TIMESTEPS)
    alpha, sigma = levels(schedule)
    clean = schedule_lib.predicted_latents(schedule, output, noisy, alpha=alpha, sigma=sigma)
    error = clean - latents
    smallest = 1.0 if schedule.ends_in_noise else 0.0
    limited = np.clip(np.square(alpha / sigma), smallest, 5.0).ravel()
    loss = loss_of(schedule, output, latents=latents, noise=noise, weighting="min_snr")
    np.testing.assert_allclose(loss, limited * per_example(error), rtol=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weighting", loss_lib.WEIGHTINGS)
def test_every_timestep_trains_also_where_sampling_starts(schedule, weighting):
    weights = np.asarray(loss_lib.weights(schedule, jnp.arange(1000), weighting))
    assert np.isfinite(weights).all() and weights.min() > 0
    if schedule.ends_in_noise:  # the model returns the clean latents, or minus those
        np.testing.assert_allclose(weights[-1], 1.0, atol=1e-3)


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="weighting is 'snr'"):
        loss_lib.weights(Schedule(), jnp.array([0]), "snr")


def test_bars_do_not_count():
    """The error is a mean over the latents that hold anything of the picture."""
    schedule = SCHEDULES[1]
    latents, noise, output = np.random.default_rng(0).normal(size=(3, 3, 4, 8, 2)).astype("f4")
    timesteps = TIMESTEPS[:3]
    shown = np.array([[0, 0, 1, 1], [0.25, 0, 0.75, 1], [0, 0.3, 1, 0.7]], np.float32)
    settings = {"latents": latents, "noise": noise, "timesteps": timesteps}
    loss = loss_of(schedule, output, **settings, shown=jnp.asarray(shown))
    squared = np.square(output - latents)
    parts = [squared[0], squared[1][:, 2:6], squared[2][1:3]]
    np.testing.assert_allclose(loss, [part.mean() for part in parts], rtol=1e-5)
    changed = output.copy()
    changed[1, :, :2] += 100
    again = loss_of(schedule, changed, **settings, shown=jnp.asarray(shown))
    np.testing.assert_array_equal(again, loss)


@pytest.mark.parametrize("size", [8, 7, 5])
def test_a_latent_with_a_pixel_of_the_picture_is_shown(size):
    edges = jnp.array([[0.0, 0.0, 1.0, 1.0], [3 / 8, 1 / 3, 5 / 8, 2 / 3]])
    found = np.asarray(loss_lib.shown_latents(edges, (size, size)))
    assert found[0].all()
    cells = np.arange(size)
    columns = ((cells + 1) / size > 3 / 8 + 1e-6) & (cells / size < 5 / 8 - 1e-6)
    np.testing.assert_array_equal(found[1].any(axis=0), columns)
