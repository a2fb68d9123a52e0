"""The order of targets: by character, in batches of one shape, the same at every resume."""

import numpy as np
import pytest

from rbjax.data import order as order_lib
from rbjax.data.order import TargetOrder
from tfds_retribooru.clusters import from_records

SIZES = (60, 25, 10, 4, 1)  # images of each character


@pytest.fixture(scope="module")
def clusters():
    names = np.repeat([f"c{i}" for i in range(len(SIZES))], SIZES)
    mixed = np.random.default_rng(0).permutation(names)
    return from_records([str(i) for i in range(len(mixed))], mixed.tolist(), [[]] * len(mixed))


def make(weights=None, shapes=None, batch_size=5, seed=0, count=100):
    shapes = np.zeros(count, int) if shapes is None else shapes
    return TargetOrder(weights, shapes, batch_size, seed)


def read(order, count) -> np.ndarray:
    return np.array([order(k) for k in range(count)])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_characters_come_by_the_power_of_their_images(clusters, power):
    order = make(order_lib.character_weights(clusters, power))
    drawn = read(order, 3000)
    counts = np.bincount(clusters.character[drawn], minlength=len(SIZES))
    wanted = np.array(SIZES) ** power
    np.testing.assert_allclose(counts / 3000, wanted / wanted.sum(), atol=0.01)
    for character in range(len(SIZES)):
        images = np.flatnonzero(clusters.character == character)
        times = np.bincount(drawn, minlength=100)[images]
        assert times.min() > 0.3 * times.mean() and times.max() < 2 * times.mean()


def test_an_epoch_has_each_image_as_often_as_its_weight_says(clusters):
    weights = order_lib.character_weights(clusters, 0.3)
    wanted = 100 * weights / weights.sum()
    for epoch in range(5):
        drawn = read(make(weights), 500)[100 * epoch : 100 * epoch + 100]
        times = np.bincount(drawn, minlength=100)
        assert (times >= np.floor(wanted - 1e-9)).all() and (times <= np.ceil(wanted + 1e-9)).all()


def test_without_weights_an_epoch_has_every_image_once_in_another_order():
    first, second = read(make(), 200).reshape(2, 100)
    assert sorted(first) == sorted(second) == list(range(100))
    assert (first != second).sum() > 80


@pytest.mark.parametrize("batch_size", [5, 7])
def test_a_batch_has_one_shape_and_shapes_come_by_their_share(batch_size):
    shapes = np.random.default_rng(1).choice(4, 100, p=[0.6, 0.2, 0.15, 0.05])
    order = make(shapes=shapes, batch_size=batch_size)
    count = 100 // batch_size * batch_size
    drawn = read(order, 60 * count).reshape(-1, batch_size)
    assert (shapes[drawn] == shapes[drawn[:, :1]]).all()
    share = np.bincount(shapes[drawn].ravel()) / drawn.size
    np.testing.assert_allclose(share, np.bincount(shapes) / 100, atol=0.03)
    assert set(drawn.ravel().tolist()) == set(range(100))


def test_example_k_depends_on_the_seed_and_k_alone():
    shapes = np.arange(100) % 3
    later = [make(shapes=shapes)(k) for k in (431, 7, 258)]
    assert later == read(make(shapes=shapes), 432)[[431, 7, 258]].tolist()
    assert (read(make(shapes=shapes, seed=1), 50) != read(make(shapes=shapes), 50)).mean() > 0.8


def test_fewer_images_than_a_batch_repeat():
    drawn = read(make(batch_size=8, count=3), 16).reshape(2, 8)
    assert set(drawn[0].tolist()) == set(drawn[1].tolist()) == {0, 1, 2}
