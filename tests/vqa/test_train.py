"""The training script of the VQA model: what it shows and asks, and one short run."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.vqa import accuracy, losses, train, training_data
from rbjax.vqa.model import VQA
from scripts import train_vqa

VOCABULARY = {
    "tags": {
        "red hair": {"attribute": "hair_color", "answer": "red", "kind": "identity"},
        "blue hair": {"attribute": "hair_color", "answer": "blue", "kind": "identity"},
        "smile": {"attribute": "mouth", "answer": "smile", "kind": "free"},
        "open mouth": {"attribute": "mouth", "answer": "open mouth", "kind": "free"},
        "frown": {"attribute": "mouth", "answer": "frown", "kind": "free"},
    },
    "questions": {"hair_color": "what color is the hair?", "mouth": "what is the mouth doing?"},
}


@pytest.fixture(scope="module")
def texts():
    return training_data.Texts.build(VOCABULARY)


def test_the_tokenizer_knows_all_words_and_frames_a_text(texts):
    encoded = texts.tokenizer.encode("Solo, red hair, face, clothes")
    assert encoded.tokens == "[CLS] solo , red hair , face , clothes [SEP]".split()
    assert texts.tokenizer.decode(encoded.ids) == "solo , red hair , face , clothes"
    assert texts.tokenizer.encode("zebra").tokens[1] == "[UNK]"


def test_questions_fit_what_an_image_shows(texts):
    rng = np.random.default_rng(0)
    labels = np.array([[1, training_data.UNSEEN], [training_data.NONE, 2]] * 200)
    questions, answers = training_data.choose_questions(labels, texts, rng, what=1, phrases=1)
    decode = texts.tokenizer.decode
    what = {
        (decode(q[0]), decode(np.maximum(a[0], 0))) for q, a in zip(questions, answers, strict=True)
    }
    assert what == {("what color is the hair ?", "blue"), ("what is the mouth doing ?", "frown")}
    said = {
        (decode(q[1]), decode(np.maximum(a[1], 0))) for q, a in zip(questions, answers, strict=True)
    }
    assert {("is there blue hair ?", "yes"), ("is there red hair ?", "no")} <= said
    assert ("is there smile ?", "no") in said and ("is there smile ?", "yes") not in said


@pytest.fixture(scope="module")
def images() -> training_data.Images:
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, 2, 20), rng.integers(0, 3, 20)], axis=1)
    return training_data.Images(rng.integers(0, 256, (20, 128, 128, 3), np.uint8), labels)


def options_of(folder: Path, *more: str) -> train.TrainOptions:
    text = "--batch_size 2 --questions 1 --phrases 1 --width 12 --heads 1 --layers 1"
    return train_vqa.parse_args([*text.split(), "--patch_size=40", f"--out={folder}", *more])


def run(images, texts, options):
    parts = {"centered": images, "varied": images}
    train.run(images, parts, parts, texts=texts, options=options)


def test_a_batch_depends_on_the_step_alone(images, texts, tmp_path):
    options = options_of(tmp_path)
    first, same, other = (train.draw(images, texts, options, n, asks=True) for n in (3, 3, 4))
    assert jax.tree.all(jax.tree.map(np.array_equal, first, same))
    assert not np.array_equal(first[0], other[0])
    assert first[2]["places"].shape == (2, 2, 9)
    assert first[2]["places"][:, 1].any() and not first[2]["places"][:, 0].any()  # mouth


def test_a_batch_without_a_label_changes_nothing():
    """As one of a few images can be whose attributes are shown seldom."""
    labels = jnp.full((2, 3), training_data.UNSEEN)
    loss, grads = jax.value_and_grad(losses.mean_cross_entropy)(jnp.ones((2, 3, 5)), labels)
    assert loss == 0 and not grads.any()


@pytest.mark.slow
def test_a_short_run_writes_a_folder_that_loads(images, texts, tmp_path):
    run(images, texts, options_of(tmp_path, "--pretrain_steps=1", "--steps=1"))
    report = json.loads((tmp_path / "accuracy.json").read_text())
    assert report["accuracy"]["varied"]["what"].keys() == VOCABULARY["questions"].keys()
    assert report["test"].keys() == {"centered", "varied"}
    vqa = VQA.load(tmp_path)
    answers = vqa.answers(np.zeros((1, 48, 48, 3), np.float32), [["what color is the hair?"]])
    assert len(answers[0]) == 1


@pytest.mark.slow
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(images, texts, tmp_path, monkeypatch):
    more = ("--pretrain_steps=2", "--steps=2", "--every=3")
    run(images, texts, options_of(tmp_path / "whole", *more))

    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(train, "write", stop)  # after the checkpoint of step 3
        run(images, texts, options_of(tmp_path / "parts", *more))
    with pytest.raises(ValueError, match="other settings"):
        run(images, texts, options_of(tmp_path / "parts", *more, "--layers=2"))
    run(images, texts, options_of(tmp_path / "parts", *more))
    names = ("model.safetensors", "accuracy.json", "config.json", "tokenizer.json")
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert not (tmp_path / "parts" / train.CHECKPOINT).exists()


def test_only_what_is_reliable_in_every_config_is_asked():
    rows = [{"hair": {48: 0.96, 128: 0.99}}, {"hair": {48: 0.94, 128: 0.95}}]
    assert accuracy.reliable(rows) == {"hair": [128]}


def test_the_table_shows_what_is_asked_in_bold():
    sizes = {48: 0.9, 64: 0.95, 96: 0.99, 128: 1.0}
    kinds = {"what": {"hair_color": sizes}, "is there": {"hair_color": sizes}}
    accuracies = {"centered": kinds, "varied": kinds}
    measured = accuracy.report(accuracies) | {"test": accuracies}
    *_, row, mean = accuracy.table(measured).splitlines()
    shown = "90.0 | **95.0** | **99.0** | **100.0** | **100.0** | 100.0 | 100.0"
    assert row == f"| hair color | {shown} |"
    assert mean == f"| mean | {shown.replace('*', '')} |"


def test_options_become_settings():
    options = train_vqa.parse_args("--steps 3 --learning_rate 0.5 --init FOLDER".split())
    changes = {"steps": 3, "learning_rate": 0.5, "init": Path("FOLDER")}
    assert options == train.TrainOptions(**changes)
    assert train_vqa.parse_args([]) == train.TrainOptions()


def test_paths_are_read_as_in_all_commands(monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/user")
    assert train_vqa.parse_args(["--out=~/vqa"]).out == Path("/home/user/vqa")
    with pytest.raises(SystemExit):
        train_vqa.main(["--init=gs://bucket/vqa"])
    assert "--init: gs://bucket/vqa is a URL; only files" in capsys.readouterr().err


def test_mistakes_end_with_one_line(monkeypatch):
    def fails(_):
        raise FileNotFoundError("--init holds no weights")

    monkeypatch.setattr(train, "main", fails)
    with pytest.raises(SystemExit, match="Error: --init holds no weights"):
        train_vqa.main([])
