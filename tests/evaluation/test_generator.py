"""Generated images of other shapes than squares."""

import numpy as np

from rbjax.evaluation import generator


def test_an_image_that_is_not_finite_stays_so_when_it_is_fitted_into_a_square():
    images = np.zeros((3, 4, 6, 3), np.float32)
    images[1, 0, 0, 0], images[2, 3, 5, 2] = np.nan, np.inf
    squares = generator._squares(images, 6)
    assert squares.shape == (3, 6, 6, 3) and squares.dtype == np.float32
    assert np.isfinite(squares[0]).all() and np.isnan(squares[1:]).all()
    np.testing.assert_allclose(squares[0, 1:5], 0, atol=0.01)
    assert (squares[0, [0, 5]] == 1).all()  # white bars
