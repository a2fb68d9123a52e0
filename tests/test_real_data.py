"""From metadata and picture files to a trained model, through the whole program."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from rbjax.data import dataset as dataset_lib
from rbjax.data import loader
from rbjax.experiment import setup as setup_lib
from rbjax.text import prompts
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from rbjax.train import loop
from tests.helpers import retribooru_folder, tiny_run
from tfds_retribooru.collect import __main__ as collect

UNBOXED = {record["id"] for record in retribooru_folder.records(12)[::3]}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data directory with `retribooru/384`: long prompts, no masks, every third without a box."""
    data_dir = tmp_path_factory.mktemp("booru")
    made = retribooru_folder.records(12)
    for record in made:
        record["bbox"] = None if record["id"] in UNBOXED else record["bbox"]
        record["prompts"] += ", a_tag" * 80
    retribooru_folder.write(data_dir / "downloads" / "manual" / "retribooru", made, masks=False)
    tfds.builder("retribooru/384", data_dir=data_dir).download_and_prepare()
    return data_dir


@pytest.fixture(scope="module")
def people_dir(tmp_path_factory):
    """A data directory with `folder/384`: 20 people, three photos each, no boxes."""
    root = tmp_path_factory.mktemp("people")
    for n in range(60):
        path = root / "in" / f"Person_{n // 3}" / f"{n % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(retribooru_folder.encoded(retribooru_folder.draw_image(n)))
    builder = tfds.builder("folder/384", path=str(root / "in"), data_dir=root)
    builder.download_and_prepare()
    return root


def open_split(data_dir, name="train"):
    return dataset_lib.open_split(tfds.builder("retribooru/384", data_dir=data_dir), name)


def config(data_dir, dataset="retribooru/384", **tasks) -> ConfigDict:
    """Two steps of `retribooru_smoke`, on the smallest model."""
    c = tiny_run.config(data_dir, retribooru=True)
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

    size, shapes = 4, None

    def __init__(self):
        self.keys = set()

    def __getitem__(self, key):
        self.keys.add((int(key[0]), int(key[1])))
        return np.zeros((self.size, self.size, 3), np.uint8)

    def target(self, index):
        return self[index, CHARACTER]


@pytest.mark.parametrize("task", ["composition", "same_identity", "same_outfit"])
def test_a_record_without_a_box_shows_no_face_and_no_clothes(data_dir, task):
    split, seen = open_split(data_dir), Seen()
    data = config(data_dir, **{"composition": 0.0, task: 1.0}).data
    tokenizer = tokenizer_lib.word_tokenizer(split.vocabulary)
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
    tokenizer = tokenizer_lib.word_tokenizer(split.vocabulary)
    examples = loader.Examples(split, Seen(), tokenizer, data)
    for target in range(0, len(split), 5):
        drawn = examples.random_map(target, np.random.default_rng(4))  # a draw without a drop
        assert drawn.reference_mask.tolist() == [True, True]


def test_a_long_prompt_is_cut_between_tags(data_dir):
    split = open_split(data_dir)
    tokenizer = tokenizer_lib.word_tokenizer(split.vocabulary)
    kept = prompts.fitting(tokenizer, split.tags[0], 20)
    assert kept == split.tags[0][:18] and len(split.tags[0]) > 80
    assert prompts.fitting(tokenizer, kept, 20) == kept
    assert (prompts.encode(tokenizer, [", ".join(kept)], 20) != 0).all()


def write_dump(root, characters: int) -> None:
    """Danbooru's metadata and pictures: of each character two outfits of three pictures."""
    posts = []
    for n in range(6 * characters):
        cloths = "bikini sarong" if n // 3 % 2 else "serafuku pleated_skirt kneehighs"
        hair = "blue_hair" if n // 6 % 2 else "red_hair"
        post = {"id": 500 + n, "md5": f"{n:032x}", "rating": "g", "file_ext": "png"}
        tags = {"general": f"1girl solo smile {hair} {cloths}", "artist": f"artist_{n % 3}"}
        tags["character"] = f"girl_{n // 6}_(test)"
        posts.append(post | {f"tag_string_{kind}": text for kind, text in tags.items()})
        path = root / "images" / "original" / f"{500 + n:04d}" / f"{500 + n}.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(retribooru_folder.encoded(retribooru_folder.draw_image(n)))
    (root / "posts.json").write_text("\n".join(map(json.dumps, posts)) + '\n{"id": 7, "md')


def check_run(folder) -> str:
    """Results, sheets of samples and a report with pictures are there; returns the report."""
    results = json.loads((folder / "results.json").read_text())
    assert results["step"] == 2 and results["rows"]
    sheets = sorted((folder / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["0000001.png", "0000002.png"]
    assert all(np.asarray(Image.open(sheet)).std() > 1 for sheet in sheets)
    page = (folder / "report" / "index.html").read_text()
    assert page.count("<img") > 4
    return page


@pytest.mark.slow
def test_from_raw_metadata_to_a_trained_model(tmp_path):
    manual = tmp_path / "downloads" / "manual" / "retribooru"
    write_dump(manual, 16)
    options = ["--metadata", manual / "posts.json", "--images", manual / "images"]
    options += ["--out", manual / "annotations", "--workers", 1]
    assert collect.main([str(option) for option in options]) in (0, None)
    builder = tfds.builder("retribooru/384", data_dir=tmp_path)
    builder.download_and_prepare()
    assert builder.info.splits.total_num_examples == 16 * 6
    split = dataset_lib.open_split(builder, "train")
    assert (np.diff(split.clusters.outfit_start) == 3).all()
    assert {"1girl", "smile", "solo"} <= set(split.tags[0])
    tasks = {"composition": 0.0, "same_identity": 1.0, "same_outfit": 1.0}  # no detector, no box
    loop.train(config(tmp_path, **tasks), tmp_path / "run")
    check_run(tmp_path / "run")


@pytest.mark.slow
def test_retribooru_trains_and_shows_what_it_cannot_score(data_dir, tmp_path, capsys):
    loop.train(config(data_dir), tmp_path)
    assert "there is no question that the VQA model answers" in check_run(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["questions"]["uncovered"][0][0] == "a_tag"  # 80 times in every prompt
    assert 0 < results["questions"]["share"] < 0.1
    assert results["judge"]["split"] == "validation" and not results["judge"]["measured"]
    assert capsys.readouterr().out.count("Nothing is asked; images are compared") == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 0])
def test_pictures_of_several_shapes_train_in_buckets_or_without_bars(step, tmp_path, monkeypatch):
    made = retribooru_folder.records(16)
    manual = tmp_path / "downloads" / "manual" / "retribooru"
    retribooru_folder.write(manual, made, masks=False)
    for number, record in enumerate(made):
        picture = retribooru_folder.draw_image(number, [(40, 60), (60, 60), (60, 40)][number % 3])
        (manual / "images" / f"{record['id']}.png").write_bytes(retribooru_folder.encoded(picture))
    settings = config(tmp_path)
    with settings.unlocked():
        settings.data.update(bucket_reso_steps=step, min_bucket_reso=6, max_bucket_reso=24)
        settings.total_steps, settings.eval_every = 4, 9
        settings.checkpoint_every = settings.sample_every = 2
    shapes, place = [], loader.place
    monkeypatch.setattr(loader, "place", lambda b, s: shapes.append(b.target.shape) or place(b, s))
    loop.train(settings, tmp_path / "run")
    assert len(set(shapes)) == (1 if step == 0 else 3) and len(shapes) == 4
    assert json.loads((tmp_path / "run" / "results.json").read_text())["step"] == 4


@pytest.mark.slow
def test_people_without_boxes_train_from_whole_photos(people_dir, tmp_path):
    settings = config(people_dir, "folder/384", composition=0.0, same_identity=1.0)
    loop.train(settings, tmp_path)
    check_run(tmp_path)


@pytest.mark.parametrize("task", ["composition", "same_outfit"])
def test_a_task_without_any_reference_is_refused(people_dir, task):
    tasks = {"composition": 0.0, "same_identity": 1.0, task: 1.0}
    with pytest.raises(ValueError, match=f"config.data.tasks.{task}=1.0: no record of folder"):
        resolved = setup_lib.resolve(config(people_dir, "folder/384", **tasks))
        setup_lib.setup(resolved).open_training()
