"""Aspect-ratio buckets: kohya's shapes and choice, targets without bars, batches of one shape."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from rbjax.data import buckets, dataset, images, loader
from rbjax.data.image_cache import ConceptCrops
from rbjax.text import tokenizer as tokenizer_lib
from tests.data import test_loader
from tests.helpers import retribooru_folder


def config(size, step, smallest, largest):
    fields = {"size": size, "bucket_reso_steps": step}
    return ConfigDict(fields | {"min_bucket_reso": smallest, "max_bucket_reso": largest})


def make_bucket_resolutions(max_reso, min_size, max_size, divisible):
    """As in kohya-ss/sd-scripts, library/model_util.py."""
    max_area = max_reso[0] * max_reso[1]
    resos = set()
    width = int(math.sqrt(max_area) // divisible) * divisible
    resos.add((width, width))
    width = min_size
    while width <= max_size:
        height = min(max_size, int((max_area // width) // divisible) * divisible)
        if height >= min_size:
            resos.add((width, height))
            resos.add((height, width))
        width += divisible
    return sorted(resos)


@pytest.mark.parametrize("setting", [(512, 64, 256, 1024), (384, 64, 256, 576), (48, 6, 24, 96)])
def test_shapes_are_those_of_kohya(setting):
    size, step, smallest, largest = setting
    expected = make_bucket_resolutions((size, size), smallest, largest, step)
    assert buckets.shapes(config(*setting)) == expected


def test_the_shapes_of_the_full_size_variant():
    found = buckets.shapes(config(384, 64, 256, 576))
    half = [(256, 512), (256, 576), (320, 448)]
    assert found == [*half, (384, 384), (448, 320), (512, 256), (576, 256)]


def test_without_a_step_there_is_one_square():
    assert buckets.shapes(config(48, 0, 0, 0)) == [(48, 48)]


def test_an_image_gets_the_shape_of_the_nearest_ratio():
    choices = buckets.shapes(config(384, 64, 256, 576))
    sizes = np.array([[384, 768], [700, 1000], [500, 501], [999, 700], [4000, 300], [256, 576]])
    expected = [(256, 512), (320, 448), (384, 384), (448, 320), (576, 256), (256, 576)]
    np.testing.assert_array_equal(buckets.assign(sizes, choices), expected)


def test_shapes_of_too_few_images_give_them_to_the_next():
    choices = [(2, 4), (3, 3), (4, 2)]
    sizes = np.array([[10, 20]] * 3 + [[30, 31]] * 9 + [[20, 10]])
    found = buckets.assign(sizes, choices, least=3).tolist()
    assert found == [[2, 4]] * 3 + [[3, 3]] * 10
    assert buckets.assign(sizes, choices, least=99).tolist() == [[3, 3]] * 13


@pytest.mark.parametrize("size", [(60, 30), (30, 60), (40, 40), (19, 14)])
@pytest.mark.parametrize("shape", [(16, 8), (8, 16), (24, 24)])
def test_targets_cover_their_shape_from_the_centre(size, shape):
    columns, rows = np.meshgrid(*(np.linspace(-1, 1, n) for n in size))
    image = np.stack([128 + 100 * columns, 128 + 100 * rows, 0 * rows], axis=-1).astype(np.uint8)
    found = images.cover(image, shape)
    assert found.shape == (shape[1], shape[0], 3)
    np.testing.assert_allclose(found[..., :2].mean(axis=(0, 1)), 128, atol=4)
    scale = max(new / old for new, old in zip(shape, size, strict=True))
    for axis in (0, 1):  # what the shape shows of each side
        shown = np.ptp(found[..., axis].astype(int)) / 200
        assert shown == pytest.approx(min(1, shape[axis] / (size[axis] * scale)), abs=0.2)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Images of three ratios; 2 shapes hold a batch, the third gives its images to another."""
    root = tmp_path_factory.mktemp("buckets")
    made = retribooru_folder.records(9)
    manual = retribooru_folder.write(
        root / "downloads" / "manual" / "retribooru", made, masks=False
    )
    for number, record in enumerate(made):
        size = [(64, 64), (40, 80), (40, 80), (40, 80), (90, 40)][number % 13 % 5]
        image = retribooru_folder.draw_image(number, size)
        (manual / "images" / f"{record['id']}.png").write_bytes(retribooru_folder.encoded(image))
    builder = tfds.builder("retribooru/384", data_dir=root)
    builder.download_and_prepare()
    split = dataset.open_split(builder, "train")
    choices = buckets.shapes(config(16, 4, 8, 28))
    shapes = buckets.assign(split.sizes, choices, least=8)
    crops = ConceptCrops(split, size=16, view="crop", cache=True, shapes=shapes)
    tokenizer = tokenizer_lib.word_tokenizer(split.vocabulary)
    return loader.Examples(split, crops, tokenizer, test_loader.config())


def test_sizes_are_those_of_the_images(examples):
    for i, record in enumerate(examples.split.records):
        assert tuple(examples.split.sizes[i]) == record["image"].shape[1::-1]


def test_batches_have_one_shape_and_no_bars_and_resume_exactly(examples):
    drawn = test_loader.batches(examples, seed=1, count=12)
    shapes = {batch.target.shape for batch in drawn}
    assert len(shapes) > 1
    for batch in drawn:
        wanted = examples.crops.shapes[batch.index]
        assert (wanted == batch.target.shape[2:0:-1]).all()
        assert batch.references.shape[1:] == (4, 16, 16, 3)
        assert (batch.target[:, [0, -1]] != images.WHITE).any()
    iterator = loader.iterator(examples, batch_size=8, seed=1, threads=1)
    for _ in range(5):
        next(iterator)
    resumed = loader.iterator(examples, batch_size=8, seed=1, threads=2)
    resumed.set_state(iterator.get_state())
    test_loader.assert_equal([next(resumed) for _ in range(7)], drawn[5:])


def test_batches_have_one_shape_on_all_processes(examples):
    whole = test_loader.batches(examples, seed=1, count=6)
    for rows in (np.arange(4), np.array([1, 4, 5, 7])):
        iterator = loader.iterator(examples, batch_size=8, seed=1, threads=1, rows=rows)
        for batch in whole:
            part = next(iterator)
            assert part.target.shape == (4, *batch.target.shape[1:])
            np.testing.assert_array_equal(part.index, batch.index[rows])
            np.testing.assert_array_equal(part.target, batch.target[rows])


def test_bars_are_told_where_squares_have_some(examples):
    """Not in buckets, whose targets have none, and not where it is off."""
    crops = ConceptCrops(examples.split, size=16, view="crop", cache=True)
    off = dataclasses.replace(examples, crops=crops)
    assert test_loader.batches(off, seed=0, count=1)[0].shown is None
    on = dataclasses.replace(off, config=test_loader.config(mask_bars=True))
    batch = test_loader.batches(on, seed=0, count=1)[0]
    for shown, index, target in zip(batch.shown, batch.index, batch.target, strict=True):
        width, height = examples.split.sizes[index]
        assert shown[2] - shown[0] == pytest.approx(width / max(width, height))
        assert shown[3] - shown[1] == pytest.approx(height / max(width, height))
        edges = np.round(shown * 16).astype(int)
        bars = np.ones((16, 16), bool)
        bars[edges[1] : edges[3], edges[0] : edges[2]] = False
        assert (target[bars] == images.WHITE).all()
    bucketed = dataclasses.replace(examples, config=test_loader.config(mask_bars=True))
    assert test_loader.batches(bucketed, seed=0, count=1)[0].shown is None


def test_a_record_that_cannot_be_decoded_gives_way_to_one_of_its_shape(examples):
    crops = examples.crops
    for index in range(len(examples.split)):
        found, seen = index, set()
        while found not in seen:
            seen.add(found)
            found = crops.following(found)
        same = (crops.shapes == crops.shapes[index]).all(axis=1)
        assert seen == set(np.flatnonzero(same).tolist())
