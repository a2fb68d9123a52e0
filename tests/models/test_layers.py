"""Embeddings of time and place, and attention's mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from flax import nnx

from rbjax.models import layers


@pytest.mark.parametrize(
    "width, flip, shift", [(15, True, 0.0), (6, True, 0), (32, False, 1), (10, True, 1)]
)
def test_timestep_embedding_equals_diffusers(width, flip, shift):
    times = np.array([0, 1, 17, 999])
    expected = get_timestep_embedding(torch.tensor(times), width, flip, shift)
    found = layers.timestep_embedding(
        jnp.asarray(times), width, flip_sin_to_cos=flip, freq_shift=shift
    )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_positions_are_sines_of_the_unit_square():
    found = layers.sine_positions(2, 4, 8)  # two frequencies: pi/2 and 8 pi
    y, x = np.repeat([0.25, 0.75], 4), np.tile([0.125, 0.375, 0.625, 0.875], 2)
    angles = np.stack([y * np.pi / 2, y * 8 * np.pi, x * np.pi / 2, x * 8 * np.pi], -1)
    np.testing.assert_allclose(
        found, np.concatenate([np.sin(angles), np.cos(angles)], -1), atol=1e-5
    )


def test_every_position_is_different():
    found = np.asarray(layers.sine_positions(16, 16, 16))
    distance = np.abs(found[:, None] - found[None]).max(-1) + np.eye(256)
    assert distance.min() > 0.05


def test_channels_left_over_by_four_are_zero():
    found = layers.sine_positions(3, 2, 11)
    assert found.shape == (6, 11)
    np.testing.assert_array_equal(found[:, 8:], 0)
    assert np.abs(found[:, :8]).max() > 0.5


def test_masked_keys_change_nothing():
    attention = layers.Attention(6, 6, 3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 5, 6))
    mask = jnp.array([[True, True, False, True, False], [False, True, True, True, True]])
    other = jnp.where(mask[..., None], key, 100.0)
    np.testing.assert_array_equal(
        attention.attend(query, key, value, mask), attention.attend(query, other, value, mask)
    )


def test_upsampling_cuts_to_odd_sizes():
    layer = layers.Upsample(2, dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert layer(jnp.ones((1, 3, 4, 2)), (5, 7)).shape == (1, 5, 7, 2)


@pytest.mark.parametrize("shape, groups", [((2, 5, 3, 12), 3), ((1, 1, 7, 10), 10)])
def test_group_norm_equals_torch_far_from_zero_too(shape, groups):
    x = np.random.default_rng(0).normal(20.0, 0.5, shape).astype(np.float32)
    norm = layers.group_norm(shape[-1], groups, 1e-6, dtype=jnp.float32, rngs=nnx.Rngs(0))
    scale, bias = np.random.default_rng(1).normal(size=(2, shape[-1])).astype(np.float32)
    norm.scale.set_value(jnp.asarray(scale))
    norm.bias.set_value(jnp.asarray(bias))
    x, scale, bias = (torch.tensor(np.asarray(a, np.float64)) for a in (x, scale, bias))
    maps = x.permute(0, 3, 1, 2)  # torch's own float32 is 3e-4 off here
    expected = torch.nn.functional.group_norm(maps, groups, scale, bias, 1e-6)
    found = norm(jnp.asarray(x.numpy(), jnp.float32))
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-4)
