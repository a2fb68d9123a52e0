"""The copy-paste measure on angles that are known."""

import numpy as np

from rbjax.metrics.copy_paste import angles, copy_paste


def unit(*degrees):
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=-1)


def test_angles_are_exact_also_where_cosines_are_not():
    between = np.rad2deg(angles(unit(0, 10, 0), unit(90, 190, 1e-6)))
    np.testing.assert_allclose(between, [90, 180, 1e-6])
    assert np.isnan(angles(np.zeros(2), np.ones(2)))


def test_copy_target_and_between():
    reference, target = unit(0, 0, 0, 0), unit(60, 60, 60, 60) * 3
    generated = unit(0, 60, 30, 15)
    measured = copy_paste(generated, target, reference)
    np.testing.assert_allclose(measured, [1, -1, 0, 0.5], atol=1e-9)


def test_far_from_both_is_no_copy():
    generated, target, reference = np.eye(3)[:, None]
    np.testing.assert_allclose(copy_paste(generated, target, reference), 0, atol=1e-12)


def test_equal_target_and_reference_have_no_score():
    assert np.isnan(copy_paste(unit(10), unit(0), unit(0))).all()
