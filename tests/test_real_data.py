"""From picture files to a trained model: `retribooru` and `folder` through the whole program."""

import json

import booru
import numpy as np
import pytest
import small_run
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from rbjax.data import loader, prompts, source
from rbjax.data.references import CHARACTER, CLOTHES, FACE
from rbjax.train import experiment, loop

UNBOXED = {record["id"] for record in booru.records(12)[::3]}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data directory with `retribooru/384`: long prompts, no masks, every third without a box."""
    data_dir = tmp_path_factory.mktemp("booru")
    made = booru.records(12)
    for record in made:
        record["bbox"] = None if record["id"] in UNBOXED else record["bbox"]
        record["prompts"] += ", a_tag" * 80
    booru.write(data_dir / "downloads" / "manual" / "retribooru", made, masks=False)
    tfds.builder("retribooru/384", data_dir=data_dir).download_and_prepare()
    return data_dir


@pytest.fixture(scope="module")
def people_dir(tmp_path_factory):
    """A data directory with `folder/384`: 20 people, three photos each, no boxes."""
    root = tmp_path_factory.mktemp("people")
    for n in range(60):
        path = root / "in" / f"Person_{n // 3}" / f"{n % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(booru.encoded(booru.picture(n)))
    builder = tfds.builder("folder/384", path=str(root / "in"), data_dir=root)
    builder.download_and_prepare()
    return root


def open_split(data_dir, name="train"):
    return source.open_split(tfds.builder("retribooru/384", data_dir=data_dir), name)


def config(data_dir, dataset="retribooru/384", **tasks) -> ConfigDict:
    """Two steps of `retribooru_smoke`, on the smallest model."""
    c = small_run.config(data_dir, "retribooru_smoke")
    c.unlock()
    c.data.dataset = dataset
    c.data.tasks.update(tasks)
    c.total_steps = 2
    c.mesh.data = 1  # compiles sooner than for eight devices
    for event in ("log", "checkpoint", "sample", "eval"):
        c[f"{event}_every"] = 1
    c.eval.split = "test"
    c.lock()
    return c


class Seen:
    """Stands in for views; notes (position, concept) of what is shown."""

    size = 4

    def __init__(self):
        self.keys = set()

    def __getitem__(self, key):
        self.keys.add((int(key[0]), int(key[1])))
        return np.zeros((self.size, self.size, 3), np.uint8)


@pytest.mark.parametrize("task", ["composition", "same_identity", "same_outfit"])
def test_a_record_without_a_box_shows_no_face_and_no_clothes(data_dir, task):
    split, seen = open_split(data_dir), Seen()
    data = config(data_dir, **{"composition": 0.0, task: 1.0}).data
    tokenizer = prompts.word_tokenizer(split.vocabulary)
    examples = loader.Examples(split, seen, tokenizer, data)
    for target in range(len(split)):
        examples.random_map(target, np.random.default_rng(target))
    ids = [record["id"].decode() for record in split.records]
    parts = {ids[i] for i, concept in seen.keys if concept in (FACE, CLOTHES)}
    whole = {ids[i] for i, concept in seen.keys if concept == CHARACTER}
    assert whole == set(ids)
    boxed = set(ids) - UNBOXED
    assert parts <= boxed and (len(parts) > len(boxed) / 2) == (task == "composition")


def test_every_wanted_reference_is_found_among_the_boxed(data_dir):
    split = open_split(data_dir)
    data = config(data_dir).data
    with data.unlocked():
        data.vary_references, data.faces, data.clothes = False, 1, 1
    tokenizer = prompts.word_tokenizer(split.vocabulary)
    examples = loader.Examples(split, Seen(), tokenizer, data)
    for target in range(0, len(split), 5):
        drawn = examples.random_map(target, np.random.default_rng(4))  # a draw without a drop
        assert drawn["reference_mask"].tolist() == [True, True]


def test_a_long_prompt_is_cut_between_tags(data_dir):
    split = open_split(data_dir)
    tokenizer = prompts.word_tokenizer(split.vocabulary)
    kept = prompts.fitting(tokenizer, split.tags[0], 20)
    assert kept == split.tags[0][:18] and len(split.tags[0]) > 80
    assert prompts.fitting(tokenizer, kept, 20) == kept
    assert (prompts.encode(tokenizer, [", ".join(kept)], 20) != 0).all()


@pytest.mark.slow
def test_retribooru_trains_and_shows_what_it_cannot_score(data_dir, tmp_path, capsys):
    loop.train(config(data_dir), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["step"] == 2
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [
        "0000001.png",
        "0000002.png",
    ]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "the data set has no questions" in page and page.count("<img") > 4
    text = capsys.readouterr().out
    assert text.count("retribooru/384 has no questions to ask") == 1


@pytest.mark.slow
def test_people_without_boxes_train_from_whole_photos(people_dir, tmp_path):
    settings = config(people_dir, "folder/384", composition=0.0, same_identity=1.0)
    loop.train(settings, tmp_path)
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<img") > 4


def test_composition_without_any_box_is_refused(people_dir):
    with pytest.raises(ValueError, match="config.data.tasks.composition=1.0: no record of folder"):
        experiment.setup(config(people_dir, "folder/384")).open_training()
