"""Schedules: formulas against diffusers, and round trips between what models predict."""

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rbjax.diffusion import schedule as schedule_lib
from rbjax.diffusion.schedule import Schedule

TIMESTEPS = np.array([0, 1, 17, 500, 998, 999])
FLOW = Schedule(betas="rectified_flow", prediction_type="sample")


def example(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, 6, 3, 5, 4)).astype(np.float32)


def diffusers_ddim(schedule: Schedule) -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(
        num_train_timesteps=schedule.num_train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.betas,
        prediction_type=schedule.prediction_type,
        rescale_betas_zero_snr=schedule.rescale_betas_zero_snr,
    )


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("betas", ["scaled_linear", "linear", "squaredcos_cap_v2"])
def test_noise_and_velocity_equal_those_of_diffusers(betas, zero_snr):
    schedule = Schedule(betas=betas, prediction_type="sample", rescale_betas_zero_snr=zero_snr)
    oracle = diffusers_ddim(schedule)
    latents, noise = example()
    tensors = torch.tensor(latents), torch.tensor(noise), torch.tensor(TIMESTEPS)
    noisy = schedule_lib.add_noise(schedule, latents, noise=noise, timesteps=TIMESTEPS)
    np.testing.assert_allclose(noisy, oracle.add_noise(*tensors), atol=1e-4)
    velocity = schedule_lib.velocity(schedule, latents, noise=noise, timesteps=TIMESTEPS)
    np.testing.assert_allclose(velocity, oracle.get_velocity(*tensors), atol=1e-4)


def test_rescaling_leaves_no_signal_at_the_last_timestep():
    schedule = Schedule(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    alpha, sigma = schedule_lib.coefficients(schedule, jnp.array([0, 999]))
    plain, _ = schedule_lib.coefficients(Schedule(), jnp.array([0]))
    assert (alpha[1], sigma[1]) == (0, 1)
    np.testing.assert_allclose(alpha[0], plain[0], rtol=1e-6)


def test_rectified_flow_is_the_straight_line():
    latents, noise = example()
    noisy = schedule_lib.add_noise(FLOW, latents, noise=noise, timesteps=TIMESTEPS)
    s = ((TIMESTEPS + 1) / 1000).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(noisy, (1 - s) * latents + s * noise, atol=1e-6)
    np.testing.assert_array_equal(noisy[-1], noise[-1])
    np.testing.assert_array_equal(
        schedule_lib.velocity(FLOW, latents, noise=noise, timesteps=TIMESTEPS), noise - latents
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["scaled_linear", "rectified_flow"])
def test_a_perfect_prediction_gives_back_latents_and_noise(betas, prediction):
    if betas == "rectified_flow" and prediction == "epsilon":
        pytest.skip("refused: tested below")
    schedule = Schedule(betas=betas, prediction_type=prediction)
    latents, noise = example()
    noisy = schedule_lib.add_noise(schedule, latents, noise=noise, timesteps=TIMESTEPS)
    output = schedule_lib.target(schedule, latents, noise=noise, timesteps=TIMESTEPS)
    alpha, sigma = (x.reshape(-1, 1, 1, 1) for x in schedule_lib.coefficients(schedule, TIMESTEPS))
    clean = schedule_lib.predicted_latents(schedule, output, noisy, alpha=alpha, sigma=sigma)
    np.testing.assert_allclose(clean, latents, atol=1e-4)
    epsilon = output if prediction == "epsilon" else (noisy - alpha * clean) / sigma
    np.testing.assert_allclose(epsilon, noise, atol=2e-3)  # float32, divided by sigma = 0.001


def test_timesteps_may_be_traced_and_need_not_be_whole():
    schedule = Schedule()
    levels = jax.jit(lambda t: schedule_lib.coefficients(schedule, t))
    whole = levels(jnp.array([3, 4, 999]))
    same = levels(jnp.array([3.0, 4.0, 999.0]))
    np.testing.assert_allclose(np.array(same), np.array(whole), rtol=1e-5)
    alpha, sigma = levels(jnp.array([3.5]))
    assert whole[0][1] < alpha[0] < whole[0][0]
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-6)


def test_the_file_of_a_diffusers_folder_is_read():
    oracle = diffusers.DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    )
    schedule = Schedule.from_config(oracle.config)
    assert (schedule.betas, schedule.prediction_type) == ("squaredcos_cap_v2", "v_prediction")
    assert (schedule.steps_offset, schedule.set_alpha_to_one) == (0, True)


@pytest.mark.parametrize("kind", ["DDIM", "PNDM", "DDPM", "EulerDiscrete", "DPMSolverMultistep"])
def test_what_a_file_does_not_name_is_its_scheduler_s_own(kind):
    oracle = getattr(diffusers, f"{kind}Scheduler")()
    found = Schedule.from_config({"_class_name": f"{kind}Scheduler", "beta_schedule": "linear"})
    assert found.timestep_spacing == oracle.config.timestep_spacing
    assert found.set_alpha_to_one == oracle.config.get("set_alpha_to_one", True)  # DDIM's default


def test_schedules_of_other_models_are_refused():
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler.*not supported"):
        Schedule.from_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.0})


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(betas="cosine"), "betas is 'cosine'"),
        (dict(prediction_type="noise"), "prediction_type is 'noise'"),
        (dict(timestep_spacing="even"), "timestep_spacing is 'even'"),
        (dict(betas="rectified_flow"), "pure noise"),
        (dict(rescale_betas_zero_snr=True), "pure noise"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)
