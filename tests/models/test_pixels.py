"""Pixels and what models read: values and ranges."""

import numpy as np

from rbjax.models import pixels


def test_the_range_maps_to_bytes_and_is_clipped():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 3.0])
    np.testing.assert_array_equal(pixels.to_uint8(values), [0, 0, 128, 255, 255])


def test_bytes_survive_the_way_through_floats():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(pixels.to_uint8(every / np.float32(127.5) - 1), every)


def test_float_and_back_is_exact():
    values = np.arange(256, dtype=np.uint8)
    floats = pixels.to_float(values)
    assert floats.dtype == np.float32 and floats[0] == -1 and floats[-1] == 1
    np.testing.assert_array_equal(pixels.to_uint8(floats), values)
    np.testing.assert_array_equal(pixels.to_uint8([-3.0, 3.0]), [0, 255])
