"""The format of boxes in pixels, told by all of them together."""

import numpy as np
import pytest

from tfds_retribooru import boxes
from tfds_retribooru.building.parts import PartCounts
from tfds_retribooru.building.records import Record
from tfds_retribooru.building.rejections import Rejections


def pixels(form: str, x: float, y: float, w: float, h: float):
    corner = x - w / 2, y - h / 2
    return {
        boxes.FORMATS[0]: (x, y, w, h),
        boxes.FORMATS[1]: (*corner, w, h),
        boxes.FORMATS[2]: (*corner, x + w / 2, y + h / 2),
    }[form]


@pytest.mark.parametrize("form", boxes.FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.2, 0.45])  # of the picture; small boxes fit in any format
@pytest.mark.parametrize("spread", [0.02, 0.25])
def test_the_format_of_boxes_in_pixels(form, share, spread):
    rng = np.random.default_rng(3)
    counts = PartCounts()
    for number in range(200):
        width, height = rng.integers(300, 900, 2).tolist()
        side = share * min(width, height)
        x = np.clip(rng.normal(0.5, spread), 0, 1) * (width - side) + side / 2
        y = np.clip(rng.normal(0.3, spread), 0, 1) * (height - side) + side / 2
        box = pixels(form, x, y, side * rng.uniform(0.8, 1), side * rng.uniform(0.8, 1))
        counts.add(Record(str(number), "ann", pixels=box, size=(width, height)))
    assert counts.box_format == form and counts.in_pixels == 200


def test_without_sizes_boxes_have_the_documented_format():
    counts = PartCounts()
    counts.add(Record("1", "ann", pixels=(10, 10, 200, 200)))
    assert counts.box_format == boxes.FORMATS[0]


def test_a_picture_s_own_size_tells_where_the_record_has_none():
    counts = PartCounts()
    counts.add(Record("1", "ann", pixels=(200, 100, 260, 160)))
    counts.add_pixels((200, 100, 260, 160), (480, 720))
    assert counts.box_format == boxes.FORMATS[2] and counts.in_pixels == counts.sized == 1


def counted(box, size, number: int = 20) -> PartCounts:
    counts = PartCounts()
    for k in range(number):
        counts.add(Record(str(k), "ann", pixels=box, size=size))
    return counts


def test_boxes_in_percent_are_an_error_that_says_what_to_give():
    with pytest.raises(ValueError, match=r"20 of 20 boxes .* look like percent.*\(0.42, not 42\)"):
        counted((42, 8.5, 20, 12), (800, 1200)).check_boxes()


@pytest.mark.parametrize(
    ("box", "size", "number"),
    [
        ((42, 30, 40, 40), (300, 300), 20),
        ((42, 30, 40, 140), (800, 1200), 20),
        ((42, 30, 40, 40), (800, 1200), 3),
        ((42, 30, 40, 40), None, 20),
    ],
)
def test_boxes_that_may_well_be_pixels_are_no_error(box, size, number):
    counted(box, size, number).check_boxes()


@pytest.mark.parametrize("number", [1, 5])
def test_many_sentences_are_told(tmp_path, number):
    counts, log = PartCounts(), Rejections(tmp_path, 1.0)
    for k in range(20):
        prompts = "there is a woman in a red dress" if k < number else "1girl, red dress, the_end"
        counts.add(Record(str(k), "ann", prompts=prompts))
    counts.report(log)
    assert any(note.startswith("5 records have sentences") for note in log.notes) == (number == 5)
