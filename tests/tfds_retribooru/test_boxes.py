"""Boxes: from one form to another."""

import numpy as np
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


def test_clothes_are_the_rows_and_columns_of_the_figure_below_the_face():
    mask = np.zeros((40, 30), np.uint8)
    mask[4:33, 5:12] = 255
    mask[20:25, 5:26] = 128
    face = (0.3, 0.2, 0.3, 0.2)
    assert boxes.clothes_box(face, mask, width=30, height=40) == (5, 12, 26, 33)
    assert boxes.clothes_box(face, None, width=30, height=40) == (0, 12, 30, 40)


@pytest.mark.parametrize("rows", [(), (11,), (10, 39)])
def test_clothes_that_cannot_be_told_from_the_face_are_none(rows):
    """No figure below the face, a strip of it, and a column."""
    mask = np.zeros((40, 30), np.uint8)
    mask[:10, 5:12] = 255
    mask[list(rows), 5] = 255
    assert boxes.clothes_box((0.3, 0.125, 0.3, 0.25), mask, width=30, height=40) is None
