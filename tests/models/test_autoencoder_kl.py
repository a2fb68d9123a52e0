"""The KL autoencoder against diffusers, on random weights and odd shapes."""

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from rbjax.interop import huggingface
from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig

CONFIGS = {
    "three_levels": (
        dict(block_out_channels=(6, 12, 9), layers_per_block=1, norm_num_groups=3),
        (13, 22),
    ),
    "two_levels_of_two_layers": (
        dict(block_out_channels=(4, 8), norm_num_groups=2, latent_channels=5, layers_per_block=2),
        (8, 11),
    ),
    "one_level": (
        dict(block_out_channels=(10,), layers_per_block=3, norm_num_groups=5, in_channels=1)
        | dict(out_channels=2),
        (5, 3),
    ),
}


def oracle(changes: dict) -> diffusers.AutoencoderKL:
    torch.manual_seed(0)
    levels = len(changes["block_out_channels"])
    kinds = dict(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    model = diffusers.AutoencoderKL(**kinds, **changes)
    for parameter in model.parameters():  # none at 0 or 1, where an error would not show
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def twin(model: diffusers.AutoencoderKL) -> AutoencoderKL:
    ours = huggingface.build({"_class_name": "AutoencoderKL", **model.config})
    tensors = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    huggingface.load_state_dict(ours, tensors)
    return ours


def to_torch(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x).permute(0, 3, 1, 2).contiguous()


def check_close(actual, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    expected = expected.detach().permute(0, 2, 3, 1).numpy()
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


@pytest.fixture(scope="module", params=CONFIGS)
def case(request):
    """(oracle, twin, images [2, H, W, C])."""
    changes, size = CONFIGS[request.param]
    model = oracle(changes)
    images = np.random.default_rng(0).uniform(-1, 1, (2, *size, model.config.in_channels))
    return model, twin(model), images.astype(np.float32)


def test_moments_equal_diffusers(case):
    model, ours, images = case
    mean, log_variance = nnx.jit(lambda m, x: m.moments(x))(ours, images)
    expected = model.encode(to_torch(images)).latent_dist
    check_close(mean, expected.mean)
    check_close(log_variance, expected.logvar)


def test_decoded_images_equal_diffusers(case):
    model, ours, _ = case
    shape = (2, 3, 5, model.config.latent_channels)
    latents = np.random.default_rng(1).standard_normal(shape, np.float32)
    decoded = nnx.jit(lambda m, x: m.decode(x))(ours, latents)
    check_close(decoded, model.decode(to_torch(latents) / model.config.scaling_factor).sample)


def test_gradients_equal_diffusers():
    changes, size = CONFIGS["three_levels"]
    model = oracle(changes)
    ours = twin(model)
    images = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype(np.float32)
    graphdef, state = nnx.split(ours)

    @jax.jit
    @jax.grad
    def grads(params):
        coder = nnx.merge(graphdef, params)
        mean, log_variance = coder.moments(images)
        return jnp.mean(coder.decode(mean) ** 2) + jnp.mean(log_variance**2)

    moments = model.encode(to_torch(images)).latent_dist
    decoded = model.decode(moments.mean / model.config.scaling_factor).sample
    ((decoded**2).mean() + (moments.logvar**2).mean()).backward()
    found = huggingface.state_dict(nnx.merge(graphdef, grads(state)))
    expected = {key: p.grad.numpy() for key, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    floor = 1e-2 * max(np.abs(grad).max() for grad in expected.values())
    for key, grad in expected.items():
        scale = max(np.abs(grad).max(), floor)
        np.testing.assert_allclose(found[key], grad, rtol=0, atol=2e-4 * scale, err_msg=key)


def test_keys_of_older_files_are_accepted():
    model = oracle(CONFIGS["two_levels_of_two_layers"][0])
    new = {key: value.numpy() for key, value in model.state_dict().items()}
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, value in new.items():
        for now, before in names.items():
            key = key.replace(f".{now}.", f".{before}.")
        old[key] = value
    assert old.keys() != new.keys()
    ours = huggingface.build({"_class_name": "AutoencoderKL", **model.config})
    huggingface.load_state_dict(ours, old)
    found = huggingface.state_dict(ours)
    assert all((found[key] == value).all() for key, value in new.items())


def test_without_key_the_mean_and_with_key_samples_of_the_moments():
    ours = twin(oracle(CONFIGS["one_level"][0]))
    mean, log_variance = np.full((4000, 1, 1, 4), 0.5), np.full((4000, 1, 1, 4), -1.0)
    scale = ours.config.scaling_factor
    np.testing.assert_allclose(ours.sample(mean, log_variance, None), 0.5 * scale)
    sampled = ours.sample(mean, log_variance, jax.random.key(0)) / scale
    np.testing.assert_allclose(sampled.mean(), 0.5, atol=0.02)  # 4 standard errors
    np.testing.assert_allclose(sampled.std(), np.exp(-0.5), atol=0.014)


def test_features_that_sd_lacks_are_refused():
    with pytest.raises(ValueError, match="shift_factor=0.1 is not supported"):
        AutoencoderKLConfig.from_dict({"shift_factor": 0.1})
    with pytest.raises(ValueError, match="down_block_types=.'AttnDownEncoderBlock2D'"):
        AutoencoderKLConfig.from_dict({"down_block_types": ["AttnDownEncoderBlock2D"]})


def test_images_smaller_than_a_latent_are_refused():
    ours = twin(oracle(CONFIGS["three_levels"][0]))
    with pytest.raises(ValueError, match="images of 3x9 pixels are smaller than one latent, 4x4"):
        ours.encode(jnp.zeros((1, 3, 9, 3)))
