"""Frames of entire drawings are what the data set draws there, and places are where it shows."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from rbjax.vqa import framing
from rbjax.vqa.preprocessing import resize
from tfds_retribooru.avatars import drawing, portraits
from tfds_retribooru.avatars.attributes import ATTRIBUTES
from tfds_retribooru.avatars.characters import Population, characters

LENGTH = 176  # of avatars/whole


@pytest.fixture(scope="module")
def portrait() -> portraits.Portrait:
    everyone = characters(Population(count=24))
    shown = (portraits.portraits(0, c, varied=False, whole=True)[0] for c in everyone)
    plain = {"accessory": "none", "hair": "bald", "facial_hair": "none"}
    return next(
        dataclasses.replace(p, values=p.values | plain)
        for p in shown
        if p.values["clothing"] == "graphic shirt"
    )


@pytest.mark.parametrize("number", range(6))
def test_a_frame_of_the_entire_drawing_is_what_the_data_set_draws(portrait, number):
    frame = portraits.moving_frame(np.random.default_rng(number)) if number else portraits.Frame()
    values = portrait.values | {"hair": "half shaved", "accessory": "eyepatch"}  # not symmetric
    portrait = dataclasses.replace(portrait, values=values)
    whole = np.asarray(drawing.rasterise(portrait, LENGTH)[0])[None]
    rows, columns = framing.frame_matrices(frame, size=128, target=128, length=LENGTH)
    made = (np.asarray(framing.warp(whole, rows[None], columns[None]))[0] + 1) * 127.5
    drawn = drawing.rasterise(dataclasses.replace(portrait, frame=frame), 128)[0]
    assert np.abs(made - np.asarray(drawn, float)).mean() < 3  # edges differ a little
    mirrored = np.abs(made[:, ::-1] - np.asarray(drawn, float)).mean()
    assert mirrored > 5


@pytest.mark.parametrize("name", sorted(framing.PLACES.keys() - {"clothing"}))
def test_a_place_holds_all_that_an_attribute_changes(portrait, name):
    """Two values are drawn: pixels that differ are in the patches of the place."""
    for number in range(4):
        frame = portraits.moving_frame(np.random.default_rng(number))
        seen = [
            np.asarray(
                drawing.rasterise(
                    dataclasses.replace(
                        portrait, values=portrait.values | {name: value}, frame=frame
                    ),
                    120,
                )[0],
                float,
            )
            for value in ATTRIBUTES[name].values
        ]
        differ = np.abs(np.diff(seen, axis=0)).max(axis=(0, -1)) > 40
        (mask,) = framing.place_masks(frame, [name], patches=12)
        inside = mask.reshape(12, 12).repeat(10, axis=0).repeat(10, axis=1)
        assert (differ & inside).sum() > 0.85 * differ.sum() > 10
        assert inside.mean() < 0.35


def test_an_attribute_without_place_has_none():
    assert not framing.place_masks(portraits.Frame(), ["background"], patches=12).any()


@pytest.mark.parametrize("size", [64, 128])  # PIL's box is an exact average where it divides
def test_a_reduction_is_by_area_and_then_the_resize_of_inference(size):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    matrix = framing.size_matrix(size, 120)
    np.testing.assert_allclose(matrix.sum(axis=-1), 1, atol=1e-5)
    small = Image.fromarray(pixels[0]).resize((size, size), Image.Resampling.BOX)
    wanted = resize(np.asarray(small, np.float32)[None] / 127.5 - 1, 120)
    np.testing.assert_allclose(framing.warp(pixels, matrix, matrix), wanted, atol=0.02)


def test_what_lies_beyond_a_row_repeats_its_last_pixel():
    matrix = framing.area_matrix(np.array([-4.0, -2, 1, 3, 5, 9]), 4)
    np.testing.assert_allclose(matrix @ np.array([1.0, 2, 3, 4]), [1, 1, 2.5, 4, 4])
