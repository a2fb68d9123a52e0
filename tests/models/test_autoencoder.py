"""PixelUnshuffle: exact, and torch's operation up to the order of channels."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rbjax.models.autoencoder import PixelUnshuffle


def images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("factor, size", [(1, (3, 5)), (2, (4, 10)), (5, (15, 10))])
def test_round_trip_is_exact(factor, size):
    coder, pictures = PixelUnshuffle(factor), images(*size)
    latents = coder.encode(jnp.asarray(pictures))
    assert latents.shape == (2, size[0] // factor, size[1] // factor, coder.channels)
    np.testing.assert_array_equal(coder.decode(latents), pictures)


def test_blocks_are_those_of_torch():
    factor, pictures = 3, images(6, 9)
    ours = np.asarray(PixelUnshuffle(factor).encode(jnp.asarray(pictures)))
    theirs = torch.pixel_unshuffle(torch.tensor(pictures).permute(0, 3, 1, 2), factor)
    theirs = theirs.reshape(2, 3, factor, factor, 2, 3).permute(0, 4, 5, 2, 3, 1)  # colour last
    np.testing.assert_array_equal(ours, theirs.reshape(ours.shape).numpy())


@pytest.mark.parametrize("size", [(4, 6), (6, 4)])
def test_sizes_that_do_not_divide_are_refused(size):
    with pytest.raises(ValueError, match="blocks of 3: change data.size or model.patch"):
        PixelUnshuffle(3).encode(jnp.asarray(images(*size)))
