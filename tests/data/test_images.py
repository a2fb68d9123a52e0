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


@pytest.mark.parametrize("size", [(40, 40), (20, 40), (40, 10), (33, 24)])
def test_what_is_shown_of_a_square_is_not_white(size):
    square = images.resize(np.zeros((size[1], size[0], 3), np.uint8), 40)
    left, top, right, bottom = np.round(images.shown(size) * 40).astype(int)
    assert (square[top:bottom, left:right] == 0).mean() > 0.95
    inside = np.zeros((40, 40), bool)
    inside[top:bottom, left:right] = True
    assert (square[~inside] == images.WHITE).all()


def test_captions_stand_above_rows_and_leave_the_images_as_they_are():
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (2, 3, 40, 40, 3)).astype(np.float32)
    text = "solo, a caption that is longer than three small images are wide, and goes on"
    drawn = np.array(images.captioned(rows, ["a", "b", "c"], [text, ""], scale=2))
    plain = np.array(images.grid(rows[:1], scale=2))
    height, width = plain.shape[:2]
    below = drawn[images.LINE :]
    lines = next(n for n in range(9) if (below[n * images.LINE :][:height] == plain).all())
    assert lines > 1 and drawn.shape[1] == width
    assert (drawn[: images.LINE] < 128).any() and (below[: lines * images.LINE] < 128).any()
    again = np.array(images.captioned(rows, ["a", "b", "c"], ["", text], scale=2))
    assert again.shape == drawn.shape and not np.array_equal(again, drawn)
