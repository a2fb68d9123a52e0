"""Boxes: from one form to another."""

import pytest

from tfds_retribooru import boxes


def test_a_relative_box_becomes_edges_in_pixels():
    box = boxes.to_pixels((0.5, 0.375, 0.4, 0.25), width=20, height=40)
    assert box == boxes.PixelBox(left=6, top=10, right=14, bottom=20)


@pytest.mark.parametrize("box", [(0.5, 0.5, 4, 4), (0, 0, 0, 0), (1, 1, 0, 0), (2, -1, 0, 0)])
def test_pixels_are_inside_the_image_and_never_empty(box):
    left, top, right, bottom = boxes.to_pixels(box, width=20, height=40)
    assert 0 <= left < right <= 20 and 0 <= top < bottom <= 40


def test_corner_and_size_become_edges():
    assert boxes.from_sized((3, 2, 4, 1)) == boxes.PixelBox(left=3, top=2, right=7, bottom=3)
