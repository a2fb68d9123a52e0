"""Clusters against brute force, and at size."""

import dataclasses
import shutil
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfds_retribooru import clusters as clusters_lib
from tfds_retribooru.clusters import Clusters, from_records


@st.composite
def record_lists(draw):
    """(ids, characters, similars) with one-way, dangling, repeated and crossing links."""
    count = draw(st.integers(1, 14))
    ids = [str(n) for n in draw(st.permutations(range(100, 100 + count)))]
    names = draw(st.lists(st.sampled_from("zoe ann bob".split()), min_size=count, max_size=count))
    links = st.lists(st.sampled_from([*ids, "7", "unknown"]), max_size=3)
    return ids, names, draw(st.lists(links, min_size=count, max_size=count))


def outfits(ids, characters, similars) -> list[set[int]]:
    """The outfit of every image by closing the links, step by step."""
    sets = [{i} for i in range(len(ids))]
    for i, links in enumerate(similars):
        for j in (ids.index(s) for s in links if s in ids):
            if characters[i] == characters[j] and sets[i] is not sets[j]:
                merged = sets[i] | sets[j]
                for k in merged:
                    sets[k] = merged
    return sets


def as_set(*parts: np.ndarray) -> set[int]:
    images = [int(i) for part in parts for i in part]
    assert len(images) == len(set(images))
    return set(images)


@given(record_lists())
@example((["1"], ["ann"], [[]]))
@example((["3", "1", "2"], ["ann"] * 3, [[], ["3"], ["1"]]))
@settings(max_examples=150, deadline=None)
def test_agrees_with_brute_force(records):
    ids, characters, similars = records
    clusters = from_records(*records)
    expected = outfits(*records)
    assert len(clusters) == len(ids)
    for i, name in enumerate(characters):
        character = {j for j, other in enumerate(characters) if other == name}
        assert clusters.names[clusters.character[i]] == name
        assert as_set(clusters.same_character(i)) == character
        assert as_set(clusters.same_outfit(i)) == expected[i]
        assert as_set(*clusters.other_outfits(i)) == character - expected[i]
        kept = [ids.index(s) for s in similars[i] if s in ids and ids.index(s) in character]
        assert clusters.similar_to(i).tolist() == kept


@given(record_lists(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_restricted_clusters_find_the_kept_images_alone(records, random):
    clusters = from_records(*records)
    keep = np.array([random.random() < 0.5 for _ in records[0]])
    kept, rest = set(np.flatnonzero(keep).tolist()), clusters.restricted(keep)
    for i in range(len(clusters)):
        assert as_set(rest.same_character(i)) == as_set(clusters.same_character(i)) & kept
        assert as_set(rest.same_outfit(i)) == as_set(clusters.same_outfit(i)) & kept
        assert as_set(*rest.other_outfits(i)) == as_set(*clusters.other_outfits(i)) & kept
        assert (rest.rank[i] == -1) if i not in kept else (rest.order[rest.rank[i]] == i)


@given(record_lists())
@settings(max_examples=50, deadline=None)
def test_arrays_are_as_documented(records):
    c = from_records(*records)
    everything = np.arange(len(c))
    np.testing.assert_array_equal(c.order[c.rank], everything)
    sorted_by = np.lexsort((everything, c.outfit, c.character))
    np.testing.assert_array_equal(c.order, sorted_by)
    assert sorted(set(c.outfit.tolist())) == list(range(len(c.outfit_start) - 1))
    assert set(c.character_start.tolist()) <= set(c.outfit_start.tolist())
    assert c.names.tolist() == sorted(set(records[1]))
    for field in dataclasses.fields(c):
        kind = {"names": "U", "similar_start": "i8"}.get(field.name, "i4")
        assert getattr(c, field.name).dtype.str[1:].startswith(kind), field.name


def test_save_and_load_return_the_same(tmp_path):
    written = from_records(["5", "6", "7"], ["bob", "ann", "bob"], [["7"], [], []])
    written.save(tmp_path / "clusters-train.npz")
    read = Clusters.load(tmp_path / "clusters-train.npz")
    for field in dataclasses.fields(Clusters):
        a, b = getattr(written, field.name), getattr(read, field.name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["clusters-train.npz"]


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="clusters-train.npz is missing: build the data"):
        Clusters.load(tmp_path / "clusters-train.npz")


def test_write_makes_only_what_is_missing(avatars, tmp_path):
    folder = tmp_path / "avatars" / "tiny" / avatars.data_path.name
    shutil.copytree(avatars.data_path, folder)
    lost, kept = folder / "clusters-test.npz", folder / "clusters-train.npz"
    expected, time_kept = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    clusters_lib.write(tfds.builder_from_directory(folder))
    read = Clusters.load(lost)
    original = Clusters.load(avatars.data_path / "clusters-test.npz")
    for field in dataclasses.fields(Clusters):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(original, field.name))
    assert len(lost.read_bytes()) == len(expected)
    assert kept.stat().st_mtime_ns == time_kept


def test_half_a_million_images_answer_with_views():
    count, outfit = 600_000, 4
    ids = [str(i) for i in range(count)]
    names = ["huge" if i < count // 2 else f"character_{i // 12}" for i in range(count)]
    similars = [[str(i ^ 1), str(i ^ 2)] for i in range(count)]
    clusters = from_records(ids, names, similars)
    assert len(clusters.outfit_start) == count // outfit + 1

    rng, start = np.random.default_rng(0), time.process_time()
    for image in rng.integers(count, size=1000):
        parts = clusters.other_outfits(image)
        assert all(part.base is clusters.order for part in parts)
        total = len(clusters.same_character(image))
        assert sum(map(len, parts)) == total - outfit
    assert time.process_time() - start < 2
    before, after = clusters.other_outfits(1000)
    assert np.shares_memory(before, clusters.order) and np.shares_memory(after, clusters.order)
    assert len(before) + len(after) == count // 2 - outfit
