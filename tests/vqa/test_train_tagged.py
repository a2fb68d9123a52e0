"""A VQA model that is trained on the tags of a data set of a user."""

import json

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rbjax.data import dataset as dataset_lib
from rbjax.evaluation import judging
from rbjax.vqa import judge, tagged_data, train_tagged
from rbjax.vqa.model import VQA
from rbjax.vqa.tag_questions import complete
from scripts import train_vqa
from tests.helpers import blip_folder

COLORS = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 180, 20)}
TAGS = [[f"{color} background", *["smile"] * (i % 3 == 0)] for i in range(30) for color in COLORS]
HAIR, SMILE = "what color is the background?", "is the person smiling?"


def vocabulary_of(tags):
    unknown = {t: {"attribute": t, "answer": t, "kind": "free"} for row in tags for t in row}
    return complete({"tags": unknown, "questions": {}})


@pytest.fixture(scope="module")
def texts():
    vocabulary = vocabulary_of(TAGS)
    return tagged_data.build_texts(tagged_data.count_answers(TAGS, vocabulary), vocabulary)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A built `folder/128`: characters on a colour; a white bar is a smile."""
    root, data = tmp_path_factory.mktemp("people"), tmp_path_factory.mktemp("data")
    for i, tags in enumerate(TAGS):
        image = np.empty((40, 32, 3), np.uint8)
        image[:] = np.clip(np.array(COLORS[tags[0].split()[0]]) + i % 20, 0, 255)
        image[:14] = 255 if "smile" in tags else 0
        image[-2:] = np.random.default_rng(i).integers(0, 255, (2, 32, 3))  # none is another
        path = root / f"person_{i % 30}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
        path.with_suffix(".txt").write_text(", ".join(tags))
    tfds.builder("folder/384", path=str(root), data_dir=data).download_and_prepare()
    return data


def options_of(data_dir, folder, *more):
    text = "--dataset folder/384 --batch_size 8 --questions 2 --phrases 1 --width 24 --heads 2"
    small = "--layers 1 --patch_size 40 --pretrain_steps 1 --steps 1"
    place = [f"--data_dir={data_dir}", f"--out={folder}"]
    return train_vqa.parse_args([*text.split(), *small.split(), *place, *more])


def test_answers_are_counted_with_what_is_not_shown():
    counts = tagged_data.count_answers(TAGS, vocabulary_of(TAGS))
    assert {name: {a: sum(c.values()) for a, c in of.items()} for name, of in counts.items()} == {
        "background color": {"red": 30, "blue": 30, "green": 30},
        "smile": {"yes": 30, "no": 60},
    }
    few = [["red background", "smile"]] * 20 + [["blue background"]] * 7
    assert tagged_data.count_answers(few, vocabulary_of(few)) == {}


def test_labels_are_answers_and_two_of_them_are_none(texts):
    rows = [["red background"], ["blue background", "green background", "smile"], ["smile"]]
    labels = tagged_data.label(rows, texts)
    shown = [
        [None if v < 0 else texts.values[a][v] for a, v in enumerate(row)]
        for row in labels.tolist()
    ]
    assert texts.attributes == ["background color", "smile"]
    assert shown == [["red", "no"], [None, "yes"], [None, "yes"]]


def test_no_answer_is_shown_more_often_than_all_others(texts):
    rates = tagged_data.keep_rates(tagged_data.label(TAGS, texts), 3)
    no = texts.values[1].index("no")
    np.testing.assert_allclose(rates[1, [no, 1 - no]], [0.5, 1])
    np.testing.assert_allclose(rates[0], 1)


def test_questions_have_the_labels_answers(texts):
    labels = np.array([[0, 0], [1, 1], [-1, 0], [-1, -1]] * 100)
    rng = np.random.default_rng(0)
    questions, answers = tagged_data.choose_questions(labels, texts, rng, what=1, phrases=1)
    decode = texts.tokenizer.decode
    said = [
        {(decode(q), decode(np.maximum(a, 0))) for q, a in zip(qs, ans, strict=True) if a[0] >= 0}
        for qs, ans in zip(questions.swapaxes(0, 1), answers.swapaxes(0, 1), strict=True)
    ]
    first, second = texts.values[0][:2]
    no_or_yes = {0: texts.values[1][0], 1: texts.values[1][1]}
    ask = (HAIR.replace("?", " ?"), SMILE.replace("?", " ?"))
    assert said[0] == {(ask[0], first), (ask[0], second), (ask[1], "yes"), (ask[1], "no")}
    assert {("is there smile ?", "yes"), ("is there smile ?", "no")} <= said[1]
    assert (f"is there {first} background ?", "yes") in said[1]
    assert (f"is there {first} background ?", "no") in said[1]
    assert no_or_yes == {0: "no", 1: "yes"} and not any("is there ?" in q for q, _ in said[1])
    assert (answers[3::4] == -1).all()


def test_tags_without_questions_are_refused():
    with pytest.raises(ValueError, match="nothing to train on"):
        tagged_data.build_texts({}, vocabulary_of(TAGS))


def test_the_avatars_and_a_missing_out_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="a training of their own"):
        train_vqa.main(["--dataset=avatars/varied", f"--out={tmp_path}"])
    with pytest.raises(SystemExit, match="--out is missing"):
        train_vqa.main(["--dataset=folder/384"])


def test_a_batch_depends_on_the_step_alone(data_dir, texts):
    split = dataset_lib.open_split(tfds.builder("folder/384", data_dir=data_dir), "train")
    crops = train_tagged.ConceptCrops(split, size=32, view="crop", cache=False)
    labels = tagged_data.label(split.tags, texts)
    data = tagged_data.Tagged(crops, labels, tagged_data.keep_rates(labels, 3))
    first, same, other = (
        data.sample(np.random.default_rng(n), count=4, target=20, patches=4) for n in (3, 3, 4)
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, first, same))
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (4, 32, 32, 3) and first[1][0].shape == (4, 20, 32)
    assert first[2]["labels"].shape == (4, 2) and not first[2]["places"].any()


@pytest.mark.slow
def test_a_short_run_writes_a_judge_of_the_data_set_that_goes_on(data_dir, tmp_path):
    train_tagged.main(options_of(data_dir, tmp_path / "new"))
    found = json.loads((tmp_path / "new" / "accuracy.json").read_text())
    assert found["split"] == "validation" and found["dataset"] == "folder/384"
    assert "| attribute | agreement" in (tmp_path / "new" / "agreement.md").read_text()
    builder = tfds.builder("folder/384", data_dir=data_dir)
    judged = judging.create(
        str(tmp_path / "new"),
        dataset_lib.open_split(builder, "test"),
        lambda name: dataset_lib.open_split(builder, name),
        names=builder.info.splits,
        size=48,
    )
    assert judged.record["measured"].keys() == found["measured"].keys()
    options = options_of(data_dir, tmp_path / "more", f"--init={tmp_path / 'new'}", "--width=99")
    train_tagged.main(options)
    assert VQA.load(tmp_path / "more").answers(np.zeros((1, 9, 9, 3), np.float32), [[SMILE]])


def test_words_that_the_first_model_knew_are_kept(data_dir, texts, tmp_path):
    options = options_of(data_dir, tmp_path)
    vocabulary = vocabulary_of([*TAGS, *[["frown"]] * 20])
    counts = tagged_data.count_answers([*TAGS, *[["frown"]] * 20], vocabulary)
    first = train_tagged._small_model(options, texts)
    train_tagged.write(first, {"asked": {}, "phrases": {}}, tmp_path)
    texts.tokenizer.save(str(tmp_path / "tokenizer.json"))
    start = train_tagged.begin(
        options_of(data_dir, tmp_path / "more", f"--init={tmp_path}", "--seed=9"),
        counts,
        vocabulary,
    )
    before, after = texts.tokenizer.get_vocab(), start.texts.tokenizer.get_vocab()
    assert "frown" in after.keys() - before.keys()
    assert all(before[word] != after[word] for word in ("smile", "red", "yes"))  # new places

    def row(model, ids, word):
        return model.text_encoder.embeddings.word_embeddings.embedding[...][ids[word]]

    for word in ("smile", "red", "[DEC]", "yes"):
        kept = row(start.model, after, word)
        np.testing.assert_allclose(kept, row(first, before, word), atol=1e-3)
    kernel = "text_decoder.bert.encoder.layer.0.attention.self.query.weight"
    states = [train_tagged.huggingface.state_dict(model)[kernel] for model in (first, start.model)]
    np.testing.assert_allclose(*states, atol=1e-3)


@pytest.mark.slow
def test_a_blip_of_transformers_is_fine_tuned_with_its_own_tokenizer(data_dir, tmp_path):
    more = ["background", "smiling", "smile", "green"]
    blip_folder.make(tmp_path / "blip", words=[*blip_folder.WORDS, *more])
    options = options_of(data_dir, tmp_path / "out", f"--init={tmp_path / 'blip'}")
    train_tagged.main(options)
    vqa = VQA.load(tmp_path / "out")
    assert (tmp_path / "out" / "vocab.txt").is_file() and vqa.asked_at(64) == set()
    assert "smile" in json.loads((tmp_path / "out" / "accuracy.json").read_text())["measured"]


@pytest.mark.slow
def test_it_learns_what_the_tags_say(data_dir, tmp_path):
    steps = ["--pretrain_steps=60", "--steps=120", "--learning_rate=3e-3", "--width=32"]
    train_tagged.main(options_of(data_dir, tmp_path, *steps))
    measured = json.loads((tmp_path / "accuracy.json").read_text())["measured"]
    assert measured["background color"]["agreement"] >= judge.REQUIRED
    assert measured["smile"]["agreement"] >= judge.REQUIRED
