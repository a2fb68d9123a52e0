"""Opening a data set, and the texts and crops kept beside it."""

import dataclasses
import errno
import json
import os
import shutil
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds

from rbjax.data import crops, dataset, image_cache, texts
from rbjax.data.image_cache import ConceptCrops
from rbjax.text import prompts
from rbjax.text.concepts import CHARACTER, CLOTHES, CONCEPTS, FACE
from tests.helpers import retribooru_folder
from tfds_retribooru import array_record


@pytest.fixture
def split(avatars, tmp_path):
    """A split in a directory of its own."""
    folder = tmp_path / "avatars" / "tiny" / avatars.data_path.name
    shutil.copytree(avatars.data_path, folder, ignore=shutil.ignore_patterns("texts-*"))
    return dataset.open_split(tfds.builder_from_directory(folder), "validation")


def test_prepare_finds_what_is_built(avatars_dir, avatars, capsys):
    builder = dataset.prepare("avatars/tiny", str(avatars_dir))
    assert builder.data_path == avatars.data_path
    assert "Building" not in capsys.readouterr().out


def test_a_home_directory_is_found(avatars_dir, avatars, monkeypatch):
    monkeypatch.setenv("HOME", str(avatars_dir.parent))
    builder = dataset.prepare("avatars/tiny", f"~/{avatars_dir.name}")
    assert builder.data_path == avatars.data_path


def test_prepare_restores_missing_files_beside_the_records(avatars, tmp_path):
    folder = tmp_path / "avatars" / "tiny" / avatars.data_path.name
    shutil.copytree(avatars.data_path, folder)
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    for name in ("vocabulary.json", "clusters-test.npz"):
        (folder / name).unlink()
    builder = dataset.prepare("avatars/tiny", str(tmp_path))
    assert dataset.open_split(builder, "test").vocabulary == vocabulary


def test_missing_data_dir_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.data_dir=.*does not exist. Create it"):
        dataset.prepare("avatars/tiny", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "advice"), [("pictures", "let it be read"), ("new", "give a directory that you may")]
)
def test_it_is_said_whether_input_or_output_is_forbidden(tmp_path, monkeypatch, name, advice):
    (tmp_path / "pictures").mkdir()

    def refuse(builder, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / name))

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=rf"{name}'\): {advice}"):
        dataset.prepare("avatars/tiny", str(tmp_path))


@pytest.mark.parametrize("name", ["no_such_data_set", "avatars/no_such_config"])
def test_unknown_data_set_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=f"config.data.dataset='{name}' is not a known data set"):
        dataset.prepare(name, str(tmp_path))


def test_unknown_split_names_the_known(avatars):
    with pytest.raises(ValueError, match="no split 'dev', only .'test', .*'train', 'validation'"):
        dataset.open_split(avatars, "dev")


@pytest.mark.parametrize("missing", ["vocabulary.json", "clusters-validation.npz"])
def test_a_missing_file_says_what_to_do(split, missing):
    (split.directory / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"{missing} is missing: build the data set again"):
        dataset.open_split(tfds.builder_from_directory(split.directory), "validation")


def test_a_split_holds_records_clusters_and_tags(avatars):
    split = dataset.open_split(avatars, "test")
    assert len(split) == len(split.clusters) == len(split.tags) == 24
    for i in range(0, 24, 5):
        record = split.records[i]
        assert ", ".join(split.tags[i]).encode() == record["prompts"]
        name = split.clusters.names[split.clusters.character[i]]
        assert name == record["character"].decode()


def test_data_that_nobody_put_there_is_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="retribooru/384'(.|\\n)*annotations/"):
        dataset.prepare("retribooru/384", str(tmp_path))


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """Positions of the records that are read for their texts."""
    positions, read = [], array_record.Part.__getitem__
    monkeypatch.setattr(
        array_record.Part, "__getitem__", lambda part, i: positions.append(i) or read(part, i)
    )
    return positions


def test_words_are_those_of_prompts_with_spaces_for_underscores(avatars, monkeypatch):
    tags = {"tags": {"red_hair": {}, "o_o": {}, "smile": {}}}
    monkeypatch.setattr(dataset.vocabulary, "read", lambda directory: tags)
    for is_spaced in (False, True):
        tokenizer = dataset.word_tokenizer(avatars, underscores_as_spaces=is_spaced)
        prompt = prompts.spelled("red_hair,o_o,smile", underscores_as_spaces=is_spaced)
        assert "[UNK]" not in tokenizer.encode(prompt).tokens


def test_texts_are_read_once(split, reads):
    first, second = split.tags, dataclasses.replace(split)
    assert sorted(reads) == list(range(24))
    assert second.tags == first and len(second.clusters_with_box) == 24
    assert len(reads) == 24
    assert not list(split.directory.glob("*incomplete*"))


def test_texts_are_read_once_by_all_who_start_together(split, monkeypatch):
    """All find nothing; then one writes, and those that waited for it take what it wrote."""
    count, saved = 3, []
    start, find, save = threading.Barrier(count), texts.find, texts.save
    found_before = threading.local()

    def find_together(*arguments):
        found = find(*arguments)
        if not hasattr(found_before, "done"):
            found_before.done = True
            start.wait(timeout=60)
        return found

    monkeypatch.setattr(texts, "find", find_together)
    monkeypatch.setattr(texts, "save", lambda *a: saved.append(a) or save(*a))
    with ThreadPoolExecutor(count) as pool:
        read = lambda _: dataset._read_texts(split.directory, split.name).tags  # noqa: E731
        first, *others = pool.map(read, range(count))
    assert others == [first] * (count - 1)
    assert len(first) == 24 and len(saved) == 1


@pytest.mark.parametrize(
    "name, content",
    [
        ("build.txt", b""),
        ("build.txt", b"another"),
        ("ends.npy", b"\x93NUM"),
        ("prompts.txt", b"a"),
    ],
)
def test_texts_that_are_damaged_or_of_another_build_are_not_used(split, reads, name, content):
    expected = list(split.tags)
    (split.directory / "texts-validation" / name).write_bytes(content)
    assert dataclasses.replace(split).tags == dataclasses.replace(split).tags == expected
    assert len(reads) == 2 * 24


def test_texts_of_an_older_version_are_taken_over(split, reads):
    kept = split._texts
    older = {"build": texts.build_of(split.directory)}
    older["prompts"] = [", ".join(tags) for tags in kept.tags]
    for column in ("boxed", "clothed", "sizes"):
        older[column] = getattr(kept, column).tolist()
    shutil.rmtree(split.directory / "texts-validation")
    path = split.directory / "texts-validation.json"
    path.write_text(json.dumps(older))
    assert dataclasses.replace(split).tags == kept.tags
    path.unlink()
    again = dataclasses.replace(split)._texts
    for column in ("boxed", "clothed", "sizes"):
        np.testing.assert_array_equal(getattr(again, column), getattr(kept, column))
    assert len(reads) == 24


def test_tags_are_those_of_the_prompts(tmp_path):
    prompts_of = ["1girl, red hair", "", "\u00e9toile,smile ,", "a"]
    rows = [(prompt, True, False, (3, 4)) for prompt in prompts_of]
    (tmp_path / "dataset_info.json").write_text("{}")
    texts.save(rows, tmp_path, "train")
    for found in (texts.of_rows(rows), texts.find(tmp_path, "train")):
        tags = found.tags
        assert tags == [["1girl", "red hair"], [], ["\u00e9toile", "smile"], ["a"]]
        assert tags[-1] == ["a"] and len(tags) == 4
        with pytest.raises(IndexError):
            tags[4]
    texts.save([("", True, False, (3, 4))] * 2, tmp_path, "train")
    assert texts.find(tmp_path, "train").tags == [[], []]
    (tmp_path / "dataset_info.json").write_text("{ }")
    assert texts.find(tmp_path, "train") is None


def test_texts_are_of_the_build_that_is_there(split, reads):
    expected, info = split.tags, split.directory / "dataset_info.json"
    info.write_text(info.read_text() + "\n")
    assert dataclasses.replace(split).tags == expected
    assert len(reads) == 2 * 24


def test_whether_there_is_a_box_is_kept(tmp_path, reads):
    made = retribooru_folder.records(9)
    for record in made[::3]:
        record["bbox"] = None
    retribooru_folder.write(tmp_path / "downloads" / "manual" / "retribooru", made, masks=False)
    builder = tfds.builder("retribooru/384", data_dir=tmp_path)
    builder.download_and_prepare()
    reads.clear()  # those of the vocabulary
    first = dataset.open_split(builder, "train")
    unboxed = {record["id"] for record in made[::3]}
    expected = [record["id"].decode() not in unboxed for record in first.records]
    for split in (first, dataset.open_split(builder, "train")):
        assert (split.clusters_with_box.rank >= 0).tolist() == expected
    assert len(reads) == len(first)


def test_which_images_show_clothes_is_kept(tmp_path):
    made = retribooru_folder.records(9)
    for record in made[::3]:
        record["bbox"] = [0.5, 0.55, 0.5, 0.9]  # a portrait: nothing below the face
    made[1]["bbox"] = None
    retribooru_folder.write(tmp_path / "downloads" / "manual" / "retribooru", made, masks=False)
    builder = tfds.builder("retribooru/384", data_dir=tmp_path)
    builder.download_and_prepare()
    split = dataset.open_split(builder, "train")
    portraits = {record["id"] for record in made[::3]}
    for i, record in enumerate(split.records):
        name = record["id"].decode()
        with_box = name != made[1]["id"]
        assert (split.clusters_with_box.rank[i] >= 0) == with_box
        assert (split.clusters_with_clothes.rank[i] >= 0) == (with_box and name not in portraits)
    noted = (builder.data_path / "rejected.jsonl").read_text()
    assert noted.count("the clothes cannot be told from the face") == len(portraits)


def test_a_directory_that_cannot_be_written_is_no_error(split, reads, monkeypatch, capsys):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(texts.atomic_folder, "replace", read_only)
    expected = [prompts.split_tags(record["prompts"].decode()) for record in split.records]
    assert split.tags == split.tags == expected
    assert len(split.clusters_with_box) == len(reads) == 24
    said = capsys.readouterr().out
    assert said.count("cannot be written (Read-only file system)") == 1
    assert not list(split.directory.glob("texts-validation*"))


def crops_of(split, size, view="crop", cache=True):
    return ConceptCrops(split, size=size, view=view, cache=cache)


@pytest.mark.parametrize("view", crops.VIEWS)
def test_cached_crops_equal_those_from_records(split, view):
    cached, direct = (crops_of(split, 20, view, cache=cache) for cache in (True, False))
    for i in range(len(split)):
        for concept in (FACE, CLOTHES, CHARACTER):
            np.testing.assert_array_equal(cached[i, concept], direct[i, concept])
    assert len(cached.pictures) == 24 and direct.pictures is None


def test_jittered_and_mirrored_crops_are_the_same_from_the_cache(split):
    cached, direct = (crops_of(split, 20, cache=cache) for cache in (True, False))
    rng = np.random.default_rng(0)
    changes = [crops.draw_change(rng, jitter=0.3, flip=0.5, blank=0.5) for _ in range(12)]
    for i, change in enumerate(changes):
        for concept in (FACE, CLOTHES, CHARACTER):
            crop = cached.crop(i, concept, change)
            np.testing.assert_array_equal(crop, direct.crop(i, concept, change))
        assert (cached.crop(i, FACE, change) != cached[i, FACE]).any()


def test_pictures_of_any_size_and_without_masks_are_cached(tmp_path):
    made = retribooru_folder.records(9)
    retribooru_folder.write(tmp_path / "downloads" / "manual" / "retribooru", made, masks=False)
    builder = tfds.builder("retribooru/384", data_dir=tmp_path)
    builder.download_and_prepare()
    split = dataset.open_split(builder, "train")
    cached, direct = (crops_of(split, 24, cache=cache) for cache in (True, False))
    for i in range(len(split)):
        for concept in range(len(CONCEPTS)):
            np.testing.assert_array_equal(cached[i, concept], direct[i, concept])


def test_images_are_decoded_once_for_all_sizes_and_views(split, monkeypatch):
    direct = crops_of(split, 12, "in_place", cache=False)[3, FACE]
    crops_of(split, 8)
    monkeypatch.setattr(image_cache, "_write", None)
    np.testing.assert_array_equal(crops_of(split, 12, "in_place")[3, FACE], direct)


def test_an_interrupted_file_is_not_read(split):
    other = split.directory / "incomplete.f00d.pictures-validation.npz"
    other.write_bytes(b"half a file")
    cached, direct = (crops_of(split, 8, cache=cache) for cache in (True, False))
    np.testing.assert_array_equal(cached[11, CLOTHES], direct[11, CLOTHES])
    assert list(split.directory.glob("*incomplete*")) == [other]  # another process may be at it


def test_an_interrupted_run_leaves_no_file(split, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "map_in_order", interrupted)
        with pytest.raises(KeyboardInterrupt):
            crops_of(split, 8)
    assert not list(split.directory.glob("*pictures-validation*"))
    assert crops_of(split, 8)[0, FACE].any()


def test_a_full_disk_is_an_error_before_crops_are_written(split, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1))
    with pytest.raises(OSError, match="GB are free(.|\n)*--config.data.cache=False"):
        crops_of(split, 8)
    assert not list(split.directory.glob("*pictures-validation*"))


def test_images_that_cannot_be_kept_say_what_to_do(split, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(image_cache, "incomplete_file", read_only)
    with pytest.raises(OSError, match="Read-only file system.*--config.data.cache=False"):
        crops_of(split, 8)
