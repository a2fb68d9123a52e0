"""Crops of a concept: boxes, sizes and ranges."""

import numpy as np
import pytest

from rbjax.data import crops, images
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from tfds_retribooru.boxes import PixelBox


@pytest.fixture
def record():
    """40 x 20 pixels, each of its own colour; the figure: columns 4 to 15, rows 10 to 33."""
    rows, columns = np.mgrid[:40, :20]
    image = np.stack([rows * 6, columns * 12, 0 * rows], axis=-1).astype(np.uint8)
    mask = np.zeros((40, 20, 1), np.uint8)
    mask[10:34, 4:16] = 255
    mask[30:38, 2:18] = np.maximum(mask[30:38, 2:18], 127)  # soft: not yet figure
    return {"image": image, "mask": mask, "bbox": np.array([0.5, 0.375, 0.4, 0.25], np.float32)}


def box(record, concept, **changes):
    values = {**record, **changes}
    shape = values["image"].shape[:2]
    return crops.concept_box(np.array(values["bbox"]), values["mask"], concept=concept, shape=shape)


def test_boxes_of_the_concepts(record):
    assert box(record, FACE) == (6, 10, 14, 20)
    assert box(record, CLOTHES) == (4, 20, 16, 34)
    assert box(record, CHARACTER) == (0, 0, 20, 40)


@pytest.mark.parametrize(
    "bbox", [(0.5, 0.5, 4, 4), (0, 0, 0.1, 0.1), (1, 1, 0.1, 0.1), (0.5, 0.5, 0, 0), (2, -1, 0, 0)]
)
@pytest.mark.parametrize("view", crops.VIEWS)
def test_any_box_gives_a_face(record, bbox, view):
    left, top, right, bottom = box(record, FACE, bbox=bbox)
    assert 0 <= top < bottom <= 40 and 0 <= left < right <= 20
    crop = crops.crop_concept({**record, "bbox": np.array(bbox)}, FACE, size=8, view=view)
    assert crop.shape == (8, 8, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": np.zeros((40, 20, 1), np.uint8)},
        {"bbox": (0.5, 0.5, 0.4, 1.0)},
        {"bbox": (0.5, 0.5, 0.4, 1.0), "mask": None},
        {"bbox": (0.5, 0.485, 0.4, 0.97), "mask": None},  # a row or two below the face
    ],
)
def test_the_entire_image_never_serves_as_clothes(record, changes):
    with pytest.raises(ValueError, match="leaves no clothes to be seen"):
        box(record, CLOTHES, **changes)


def test_without_a_mask_all_below_the_face_is_figure(record):
    everywhere = np.full((40, 20, 1), 255, np.uint8)
    for y in (0.1, 0.375, 0.7):
        bbox = (0.5, y, 0.4, 0.25)
        expected = box(record, CLOTHES, bbox=bbox, mask=everywhere)
        assert box(record, CLOTHES, bbox=bbox, mask=None) == expected


@pytest.mark.parametrize("view", crops.VIEWS)
def test_blank_clothes_are_the_figure_over_white(record, view):
    mask = np.where(record["mask"] == 255, 255, 0).astype(np.uint8)
    whitened = np.where(mask, record["image"], images.WHITE).astype(np.uint8)
    loose = crops.Change(left=0.3, top=0.1, right=0.3, bottom=0.3)
    drawn = [
        crops.crop_concept({**record, "image": image, "mask": mask}, CLOTHES, size=40, **settings)
        for image, settings in (
            (record["image"], {"view": view, "change": loose._replace(blank=True)}),
            (whitened, {"view": view, "change": loose}),
            (record["image"], {"view": view, "change": loose}),
        )
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


@pytest.mark.parametrize("concept", [FACE, CHARACTER])
def test_only_clothes_are_blanked(record, concept):
    a, b = (
        crops.crop_concept(record, concept, size=8, view="crop", change=crops.Change(blank=blank))
        for blank in (False, True)
    )
    np.testing.assert_array_equal(a, b)


def test_resize_averages_areas_and_pads_white():
    image = np.zeros((8, 4, 3), np.uint8)
    image[::2] = 100
    small = images.resize(image, 4)
    assert (small[:, 1:3] == 50).all()
    assert (small[:, [0, 3]] == images.WHITE).all()


def test_enlarging_interpolates_and_keeps_ramps():
    """Repeated pixels would give 12 different rows; an inner part of a ramp stays a ramp."""
    ramp = np.repeat(np.arange(0, 240, 20, dtype=np.uint8), 12 * 3).reshape(12, 12, 3)
    large = images.resize(ramp, 48)[:, 20, 0].astype(float)
    assert len(np.unique(large)) > 40
    np.testing.assert_allclose(np.diff(large[12:-12]), 5, atol=1)
    assert 0.5 * (large[23] + large[24]) == pytest.approx(110, abs=1)


def test_resize_to_the_same_size_changes_nothing(record):
    square = record["image"][:20]
    np.testing.assert_array_equal(images.resize(square, 20), square)


@pytest.mark.parametrize("concept", [FACE, CLOTHES])
def test_in_place_keeps_the_concept_where_it_is(record, concept):
    left, top, right, bottom = box(record, concept)
    crop = crops.crop_concept(record, concept, size=40, view="in_place")[:, 10:30]
    inside = np.zeros((40, 20), bool)
    inside[top:bottom, left:right] = True
    np.testing.assert_array_equal(crop[inside], record["image"][inside])
    assert (crop[~inside] == images.WHITE).all()


def test_crop_enlarges_the_concept(record):
    crop = crops.crop_concept(record, FACE, size=10, view="crop")
    np.testing.assert_array_equal(crop[:, 1:9], record["image"][10:20, 6:14])


@pytest.mark.parametrize("view", crops.VIEWS)
def test_a_character_is_the_entire_image_in_every_view(record, view):
    crop = crops.crop_concept(record, CHARACTER, size=40, view=view)
    np.testing.assert_array_equal(crop[:, 10:30], record["image"])


# --- jittered crops


def test_edges_move_by_shares_of_the_box_and_stay_inside(record):
    box = PixelBox(6, 10, 14, 20)
    moved = crops.change_box(box, crops.Change(0.25, -0.1, 0.5, 0.2), shape=(40, 20))
    assert moved == (4, 11, 18, 22)
    assert crops.change_box(box, crops.UNCHANGED, shape=(40, 20)) == box
    everything = crops.Change(9, 9, 9, 9)
    assert crops.change_box(box, everything, shape=(40, 20)) == (0, 0, 20, 40)
    nothing = crops.Change(-1, -1, -1, -1)
    left, top, right, bottom = crops.change_box(box, nothing, shape=(40, 20))
    assert right - left == bottom - top == 1


def test_a_changed_crop_is_that_of_the_moved_box_mirrored(record):
    change = crops.Change(0.25, -0.1, 0.5, 0.2, flip=True)
    crop = crops.crop_concept(record, FACE, size=14, view="crop", change=change)
    expected = images.resize(record["image"][11:22, 4:18], 14)
    np.testing.assert_array_equal(crop, expected[:, ::-1])


def test_changes_are_drawn_within_the_jitter_and_by_the_rate():
    rng = np.random.default_rng(0)
    rates = {"jitter": 0.2, "flip": 0.3, "blank": 0.6}
    drawn = np.array([crops.draw_change(rng, **rates) for _ in range(2000)])
    edges, (flips, blanks) = drawn[:, :4], drawn[:, 4:].T
    assert -0.1 <= edges.min() < -0.099 and 0.199 < edges.max() <= 0.2
    np.testing.assert_allclose(edges.std(axis=0), 0.3 / 12**0.5, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(edges.T), np.eye(4), atol=0.08)
    assert flips.mean() == pytest.approx(0.3, abs=0.04)
    assert blanks.mean() == pytest.approx(0.6, abs=0.04)


def test_what_cannot_vary_is_not_drawn():
    rng = np.random.default_rng(0)
    assert crops.draw_change(rng, jitter=0.0, flip=0.0, blank=0.0) == crops.UNCHANGED
    sure = crops.draw_change(rng, jitter=0.0, flip=1.0, blank=1.0)
    assert sure == crops.Change(flip=True, blank=True)
    assert rng.random() == np.random.default_rng(0).random()


def test_the_changes_of_a_record_are_its_own():
    rates = {"jitter": 0.2, "flip": 0.5, "blank": 0.5}
    drawn = {(i, c): crops.record_change(i, c, rates) for i in range(9) for c in (FACE, CLOTHES)}
    assert len(set(drawn.values())) == len(drawn)
    assert all(crops.record_change(*key, rates) == change for key, change in drawn.items())
    assert crops.record_change(3, CHARACTER, rates) == crops.UNCHANGED


def test_unknown_view_names_the_known(record):
    with pytest.raises(ValueError, match="config.data.view='zoom': use one of crop, in_place"):
        crops.crop_concept(record, FACE, size=8, view="zoom")


@pytest.mark.parametrize(
    "concept, rows, columns", [(CLOTHES, (20, 40), (0, 20)), (FACE, (10, 20), (6, 14))]
)
def test_without_a_mask_the_clothes_are_all_below_the_face(record, concept, rows, columns):
    unmasked = record | {"mask": np.zeros((1, 1, 1), np.uint8), "has_mask": False}
    crop = crops.crop_concept(unmasked, concept, size=20, view="crop")
    part = record["image"][slice(*rows), slice(*columns)]
    np.testing.assert_array_equal(crop, images.resize(part, 20))
