"""Images: values, sizes and places."""

import numpy as np
import pytest

from rbjax.data import images
from rbjax.models.pixels import to_uint8


def test_a_grid_places_images_and_leaves_gaps_white():
    black, gray = np.full((3, 5, 3), -1.0), np.zeros((3, 5, 3))
    drawn = np.array(images.grid([[black, gray], [gray]]))
    assert drawn.shape == (8, 12, 3)
    assert (drawn[:3, :5] == 0).all() and (drawn[:3, 7:] == 128).all()
    assert (drawn[3:5] == 255).all() and (drawn[5:, 5:] == 255).all()


def test_enlarging_repeats_pixels():
    image = np.random.default_rng(0).uniform(-1, 1, size=(4, 4, 3))
    large = np.array(images.grid([[image]], scale=3))
    np.testing.assert_array_equal(large[1::3, 1::3], to_uint8(image))


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        images.grid([[], []])
