"""Images: values, sizes and places."""

import numpy as np
import pytest

from rbjax.data import images


def test_the_range_maps_to_bytes_and_is_clipped():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 3.0])
    np.testing.assert_array_equal(images.to_uint8(values), [0, 0, 128, 255, 255])


def test_bytes_survive_the_way_through_floats():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(images.to_uint8(every / np.float32(127.5) - 1), every)


def test_a_grid_places_images_and_leaves_gaps_white():
    black, gray = np.full((3, 5, 3), -1.0), np.zeros((3, 5, 3))
    drawn = np.array(images.grid([[black, gray], [gray]]))
    assert drawn.shape == (8, 12, 3)
    assert (drawn[:3, :5] == 0).all() and (drawn[:3, 7:] == 128).all()
    assert (drawn[3:5] == 255).all() and (drawn[5:, 5:] == 255).all()


def test_enlarging_repeats_pixels():
    image = np.random.default_rng(0).uniform(-1, 1, size=(4, 4, 3))
    large = np.array(images.grid([[image]], scale=3))
    np.testing.assert_array_equal(large[1::3, 1::3], images.to_uint8(image))


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        images.grid([[], []])


def test_float_and_back_is_exact():
    values = np.arange(256, dtype=np.uint8)
    floats = images.to_float(values)
    assert floats.dtype == np.float32 and floats[0] == -1 and floats[-1] == 1
    np.testing.assert_array_equal(images.to_uint8(floats), values)
    np.testing.assert_array_equal(images.to_uint8([-3.0, 3.0]), [0, 255])
