"""The training script of the VQA model: what it shows and asks, and one short run."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rbjax.vqa import train, training_data
from rbjax.vqa.model import VQA
from rbjax.vqa.preprocessing import resize
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


def test_the_first_warp_is_area_reduction_then_the_resize_of_inference():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    table = training_data.warp_table(np.random.default_rng(0), 3)
    np.testing.assert_allclose(table.sum(axis=-1), 1, atol=1e-5)
    for size in (32, 64, 128):  # PIL's box is an exact average where it divides the image
        s = training_data.SIZES.index(size)
        small = Image.fromarray(pixels[0]).resize((size, size), Image.Resampling.BOX)
        wanted = resize(np.asarray(small, np.float32)[None] / 127.5 - 1, training_data.INPUT)
        seen = training_data.warp(table, pixels, tuple(np.array([i]) for i in (s, 0, 0)))
        np.testing.assert_allclose(seen, wanted, atol=0.02)


@pytest.mark.slow
def test_a_short_run_writes_a_folder_that_loads(texts, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, 2, 20), rng.integers(0, 3, 20)], axis=1)
    images = training_data.Images(rng.integers(0, 256, (20, 128, 128, 3), np.uint8), labels)
    options = "--pretrain_steps 1 --steps 1 --batch_size 2 --questions 1 --phrases 1"
    options += f" --width 12 --heads 1 --layers 1 --patch_size 32 --out {tmp_path}"
    options = train_vqa.parse_args(options.split())
    train.run(
        {"centered": images, "varied": images}, {"centered": images}, texts=texts, options=options
    )
    report = json.loads((tmp_path / "accuracy.json").read_text())
    assert report["accuracy"]["centered"]["what"].keys() == VOCABULARY["questions"].keys()
    vqa = VQA.load(tmp_path)
    answers = vqa.answers(np.zeros((1, 48, 48, 3), np.float32), [["what color is the hair?"]])
    assert len(answers[0]) == 1


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
