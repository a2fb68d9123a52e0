"""Transformed references: image, box and mask change together."""

import numpy as np
import pytest

from rbjax.data import crops
from rbjax.evaluation import transformations
from rbjax.evaluation.transformations import TRANSFORMATIONS
from rbjax.text.concepts import FACE

SIZE = 40


def disc(record_mask=True):
    """A red square as the face, a blue one as the clothes, on green."""
    image = np.full((SIZE, SIZE, 3), (0, 200, 0), np.uint8)
    mask = np.zeros((SIZE, SIZE, 1), np.uint8)
    image[8:20, 12:28], image[20:, 8:32] = (220, 0, 0), (0, 0, 220)
    mask[8:20, 12:28], mask[20:, 8:32] = 255, 255
    bbox = np.array([20 / SIZE, 14 / SIZE, 16 / SIZE, 12 / SIZE], np.float32)
    return {"image": image, "mask": mask, "bbox": bbox, "has_mask": record_mask}


@pytest.mark.parametrize("name", [n for n in TRANSFORMATIONS if n != "loose"])
def test_the_face_is_still_in_its_box(name):
    crop = crops.crop_concept(TRANSFORMATIONS[name](disc()), FACE, size=8, view="crop")
    assert np.abs(crop[2:6].astype(int) - (220, 0, 0)).max() <= 4  # above and below it is white


@pytest.mark.parametrize("name", ["moved", "scaled", "flipped"])
def test_the_mask_goes_with_the_figure(name):
    record = TRANSFORMATIONS[name](disc())
    figure = record["mask"][:, :, 0] == 255
    assert figure.sum() > 300
    assert (record["image"][figure][:, 1] == 0).all()
    assert (record["image"][record["mask"][:, :, 0] == 0][:, 1] == 200).all()


def test_where_things_go():
    moved = transformations.moved(disc())
    np.testing.assert_array_equal(moved["image"][:, 4:], disc()["image"][:, :-4])
    np.testing.assert_allclose(moved["bbox"], disc()["bbox"] + [0.1, 0, 0, 0], atol=1e-6)
    scaled = transformations.scaled(disc())
    assert (scaled["image"][-1] == (0, 0, 220)).all(axis=-1).sum() == 18
    np.testing.assert_allclose(scaled["bbox"][2:], disc()["bbox"][2:] * 0.75)
    flipped = transformations.flipped(transformations.flipped(disc()))
    np.testing.assert_array_equal(flipped["image"], disc()["image"])


def test_a_loose_box_contains_the_face_and_leaves_the_image():
    record = transformations.loose(disc())
    assert record["image"] is not None and (record["image"] == disc()["image"]).all()
    np.testing.assert_allclose(record["bbox"], disc()["bbox"] * [1, 1, 1.5, 1.5], atol=1e-6)
    wide = transformations.loose(disc() | {"bbox": np.array([0.5, 0.5, 1, 1], np.float32)})
    np.testing.assert_allclose(wide["bbox"], [0.5, 0.5, 1, 1])


def test_another_background_needs_a_mask():
    record = transformations.recolored(disc())
    figure = disc()["mask"][:, :, 0] == 255
    np.testing.assert_array_equal(record["image"][figure], disc()["image"][figure])
    assert (record["image"][~figure] == transformations.BACKGROUND).all()
    with pytest.raises(ValueError, match="without a mask"):
        transformations.recolored(disc(record_mask=False))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_record_that_is_given_stays(name):
    record = disc()
    TRANSFORMATIONS[name](record)
    for key, value in disc().items():
        np.testing.assert_array_equal(record[key], value)
