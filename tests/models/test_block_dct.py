"""BlockDCT: the transform of scipy, its inverse, and what it leaves out."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft

from rbjax.models.block_dct import COLORS, BlockDCT


def images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("factor, size", [(1, (3, 5)), (2, (4, 10)), (5, (15, 10))])
def test_with_all_frequencies_nothing_is_lost(factor, size):
    coder, pictures = BlockDCT(factor, factor**2, factor**2), images(*size)
    latents = coder.encode(jnp.asarray(pictures))
    assert latents.shape == (2, size[0] // factor, size[1] // factor, 3 * factor**2)
    np.testing.assert_allclose(coder.decode(latents), pictures, atol=2e-6)


def test_channels_are_scipys_coefficients_scaled():
    coder, pictures = BlockDCT(3, 9, 9), images(6, 9)
    ours = np.asarray(coder.encode(jnp.asarray(pictures))).reshape(2, 2, 3, 3, 9)  # colour, freq.
    colors = pictures @ (COLORS / np.linalg.norm(COLORS, axis=1, keepdims=True)).T
    blocks = colors.reshape(2, 2, 3, 3, 3, 3).transpose(0, 1, 3, 5, 2, 4)  # b, h, w, colour, y, x
    theirs = fft.dctn(blocks, axes=(-2, -1), norm="ortho")
    order = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (1, 2), (2, 1), (2, 2)]
    ratio = ours / np.stack([theirs[..., u, v] for u, v in order], -1)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1, :1, :1], ratio.shape), rtol=2e-3)
    assert ratio[0, 0, 0, 0, 0] < ratio[0, 0, 0, 0, 1] < ratio[0, 0, 0, 0, -1]  # finer: larger


def test_fewer_frequencies_give_the_nearest_picture():
    """Least squares over what the kept channels can show (numpy's lstsq)."""
    coder, pictures = BlockDCT(4, 6, 2), images(4, 4)
    _, decoder = coder.kernels()
    flat = pictures.reshape(2, -1)
    best = np.linalg.lstsq(decoder.T, flat.T, rcond=None)[0].T @ decoder
    ours = coder.decode(coder.encode(jnp.asarray(pictures)))
    np.testing.assert_allclose(np.asarray(ours).reshape(2, -1), best, atol=1e-5)


def test_grey_is_kept_at_any_number_of_frequencies():
    grey = np.full((1, 6, 6, 3), 0.25, np.float32)
    coder = BlockDCT(3, 1, 1)
    np.testing.assert_allclose(coder.decode(coder.encode(jnp.asarray(grey))), grey, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 6), (6, 4)])
def test_sizes_that_do_not_divide_are_refused(size):
    with pytest.raises(ValueError, match="blocks of 3: change data.size or model.patch"):
        BlockDCT(3, 9, 9).encode(jnp.asarray(images(*size)))


@pytest.mark.parametrize("luma, chroma", [(0, 1), (10, 1), (9, 0), (9, 10)])
def test_impossible_numbers_of_frequencies_are_refused(luma, chroma):
    with pytest.raises(ValueError, match="must be 1 to 9, the square of model.patch=3"):
        BlockDCT(3, luma, chroma)
