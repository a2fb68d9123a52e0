"""Records that cannot be decoded: named, skipped if they are few, the same each time."""

import io
import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from rbjax.data import bad_records, dataset, loader
from rbjax.data.bad_records import BadRecord
from rbjax.data.image_cache import ConceptCrops
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.text.concepts import CHARACTER
from tests.data import test_loader
from tfds_retribooru import array_record


@pytest.fixture
def break_images(monkeypatch):
    """break_images({position, ...}) cuts the files of these images off."""
    original = array_record.Part.__getitem__

    def broken(positions):
        def read(self, index):
            record = original(self, index)
            if "image" in record and index in positions:
                buffer = io.BytesIO()
                record["image"].save(buffer, "png")
                record["image"] = array_record.Image.open(io.BytesIO(buffer.getvalue()[:-200]))
            return record

        monkeypatch.setattr(array_record.Part, "__getitem__", read)

    return broken


@pytest.fixture
def make(avatars, tmp_path):
    """make(cache) builds examples of a split; its directory is its own."""
    folder = tmp_path / "avatars" / "tiny" / avatars.data_path.name
    shutil.copytree(avatars.data_path, folder, ignore=shutil.ignore_patterns("pictures-*"))
    split = dataset.open_split(tfds.builder_from_directory(folder), "train")
    tokenizer = tokenizer_lib.word_tokenizer(split.vocabulary)

    def examples(cache):
        crops = ConceptCrops(split, size=16, view="crop", cache=cache)
        return loader.Examples(split, crops, tokenizer, test_loader.config())

    return examples


def batches(examples):
    """Once all records."""
    data = loader.iterator(examples, batch_size=28, seed=1, threads=2)
    return [next(data) for _ in range(9)]


@pytest.mark.parametrize("cache", [True, False])
def test_a_bad_record_is_skipped_and_named_the_same_each_time(make, break_images, cache, caplog):
    break_images({7})
    examples = make(cache)
    found, again = batches(examples), batches(make(cache))
    jax.tree.map(np.testing.assert_array_equal, found, again)
    assert all(7 not in batch.index for batch in found)
    name = examples.split.record_id(7)
    said = f"record {name} of the split train in {examples.split.directory} cannot be decoded"
    assert said in caplog.text and "it is skipped (1 of at most 1)" in caplog.text
    with pytest.raises(BadRecord, match=f"record {name} "):
        examples.crops[7, CHARACTER]


def test_examples_without_it_stay_the_same(make, break_images):
    examples = make(False)

    def draw():
        return [examples.random_map(i, np.random.default_rng(i)) for i in range(40)]

    whole = draw()
    break_images({7})
    equal = [
        all((a == b).all() for a, b in zip(*map(jax.tree.leaves, pair), strict=True))
        for pair in zip(whole, draw(), strict=True)
    ]
    assert not equal[7] and sum(equal) > 30


@pytest.mark.parametrize("cache", [True, False])
def test_too_many_end_the_run(make, break_images, cache):
    break_images({3, 7, 8})
    with pytest.raises(ValueError, match=r"[23] of \d+ records of the split train .*, more than 1"):
        batches(make(cache))


def test_errors_of_the_file_system_are_no_bad_records(make):
    split = make(False).split
    with pytest.raises(OSError, match="Input/output"), bad_records.named(split, 0):
        raise OSError(5, "Input/output error")
    with pytest.raises(BadRecord), bad_records.named(split, 0):
        raise OSError("image file is truncated")
