"""The splits: nothing leaks, and they stay when data is added."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tfds_retribooru.building import splits

TEST, VALIDATION, TRAIN = range(3)


@st.composite
def worlds(draw):
    """(ids, characters, similars): many small characters, links that may lead anywhere."""
    count = draw(st.integers(1, 40))
    ids = [str(n) for n in draw(st.permutations(range(count)))]
    names = draw(st.lists(st.sampled_from("abcdefghijkl"), min_size=count, max_size=count))
    links = draw(st.lists(st.lists(st.sampled_from(ids), max_size=2), min_size=count))
    return ids, names, links[:count]


def big(characters=400, outfits=5, images=3):
    """Ids count upwards with the characters' names in turn, as posts come in."""
    ids, names, similars = [], [], []
    for number in range(characters * outfits * images):
        image, rest = divmod(number, characters * outfits)
        outfit, character = divmod(rest, characters)
        ids.append(str(number))
        names.append(f"character {character}")
        partner = (number + characters * outfits) % (characters * outfits * images)
        similars.append([str(partner)])
        assert image < images and outfit < outfits
    return ids, names, similars


@given(worlds())
@settings(max_examples=150, deadline=None)
def test_nothing_crosses_a_split(world):
    ids, names, similars = world
    split = splits.assign(*world)
    of = dict(zip(ids, split.tolist(), strict=True))
    name_of = dict(zip(ids, names, strict=True))
    kinds = defaultdict(set)
    for name, part in zip(names, split, strict=True):
        kinds[name].add(int(part))
    assert all(kind == {TEST} or TEST not in kind for kind in kinds.values())
    assert all(TRAIN in kind for kind in kinds.values() if kind != {TEST})
    pairs = [
        (i, ids.index(s))
        for i, links in enumerate(similars)
        for s in links
        if name_of[s] == names[i]
    ]
    rows, columns = np.array(pairs).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(ids),) * 2)
    outfit = connected_components(graph, directed=False)[1]
    for i, name in enumerate(ids):
        assert {of[ids[j]] for j in np.flatnonzero(outfit == outfit[i])} == {of[name]}


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_records_does_not_matter(world, random):
    rows = list(zip(*world, strict=True))
    before = dict(zip(world[0], splits.assign(*world).tolist(), strict=True))
    random.shuffle(rows)
    ids, names, similars = zip(*rows, strict=True)
    assert dict(zip(ids, splits.assign(ids, names, similars).tolist(), strict=True)) == before


def test_shares_are_as_documented():
    ids, names, similars = big()
    split = splits.assign(ids, names, similars)
    people = Counter(dict(zip(names, split, strict=True)).values())
    assert people[TEST] / 400 == pytest.approx(splits.TEST, abs=0.04)
    rest = split[split != TEST]
    expected = splits.VALIDATION * 4 / 5  # one outfit in five always trains
    assert (rest == VALIDATION).mean() == pytest.approx(expected, abs=0.01)


def test_newer_posts_move_nothing():
    ids, names, similars = big()
    whole = splits.assign(ids, names, similars)
    half = len(ids) // 2
    known = set(ids[:half])
    kept = [[s for s in links if s in known] for links in similars[:half]]
    before = splits.assign(ids[:half], names[:half], kept)
    np.testing.assert_array_equal(before, whole[:half])


def test_numbers_are_compared_as_numbers():
    assert sorted(["x", "10", "9", "09"], key=splits.age_key) == ["09", "9", "10", "x"]


def test_no_records_no_splits():
    assert splits.assign([], [], []).shape == (0,)


@pytest.mark.parametrize("others", [0, 1])
def test_characters_that_are_all_there_is_train(others):
    names = [n for n in map(str, range(999)) if splits.share("character", n) < splits.TEST]
    names = names[: 1 + others]
    assert set(splits.assign(["1", "2"], [names[0], names[-1]], [(), ()])) == {2}
