"""A BLIP-VQA as transformers saves it serves as it is, with transformers' answers."""

import functools
import warnings

import jax
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.numpy import load_file, save_file

from rbjax.vqa import clothes
from rbjax.vqa.model import MAX_NEW_TOKENS, VQA
from tests.helpers import blip_folder
from tfds_retribooru.collect.outfits import QUESTIONS

ASKED = ["what is the person wearing?", "what color is her hair?", "is the dress red, blue?"]
PHRASES = ["red hair", "dressless shirts, no hair", "a"]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    sizes = [(31, 50), (90, 17), (32, 32), (5, 60)]
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """vocab.txt, preprocessor_config.json, one file of weights."""
    folder = tmp_path_factory.mktemp("hub")
    blip_folder.make(folder)
    return folder


@pytest.fixture(scope="module")
def saved_folder(hub_folder, tmp_path_factory):
    """processor_config.json, tokenizer.json with [DEC] and [ENC], shards."""
    folder = tmp_path_factory.mktemp("saved")
    processor = transformers.BlipProcessor.from_pretrained(hub_folder)
    added = {"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]}
    processor.tokenizer.add_special_tokens(added)
    processor.save_pretrained(folder)
    model = transformers.BlipForQuestionAnswering.from_pretrained(hub_folder)
    model.save_pretrained(folder, max_shard_size="20KB")
    names = {file.name for file in folder.iterdir()}
    assert {"processor_config.json", "tokenizer.json", "model.safetensors.index.json"} <= names
    assert not {"preprocessor_config.json", "vocab.txt", "model.safetensors"} & names
    return folder


@pytest.fixture(params=["hub_folder", "saved_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def _exact():
    with jax.default_matmul_precision("highest"):
        yield


def test_answers_are_those_of_transformers(folder, images):
    wanted = [[_answer(folder, image, question) for question in ASKED] for image in images]
    assert VQA.load(folder).answers(images, [ASKED] * len(images)) == wanted
    lengths = [len(answer.split()) for row in wanted for answer in row]
    assert max(lengths) > 4 and min(lengths) < 4
    assert len({answer for row in wanted for answer in row}) > 3


def test_probabilities_are_those_of_transformers(folder, images):
    processor, oracle = _oracle(folder)
    ours = VQA.load(folder).probability_yes(images, [PHRASES] * len(images))
    yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    start = torch.tensor([[oracle.config.text_config.bos_token_id]])
    for image, row in zip(images, ours, strict=True):
        for phrase, probability in zip(PHRASES, row, strict=True):
            inputs = _inputs(processor, image, f"is there {phrase}?")
            logits = _logits(oracle, start, **inputs)
            wanted = torch.softmax(logits[[yes, no]], dim=0)[0]
            assert probability == pytest.approx(float(wanted), abs=1e-5)
            assert 0 < probability < 1


def test_everything_may_be_asked_of_a_model_of_unknown_accuracy(hub_folder):
    vqa = VQA.load(hub_folder)
    assert vqa.accuracy is None
    assert vqa.asked_at(8) is None and vqa.phrases_at(8) is None


def test_it_answers_about_clothes(folder, images):
    pictures = [Image.fromarray(image) for image in images]
    answers = clothes.load(folder)(pictures)
    assert [tuple(answer) for answer in answers] == [QUESTIONS] * len(images)
    vqa = VQA.load(folder).answers(images, [QUESTIONS] * len(images))
    assert [list(answer.values()) for answer in answers] == vqa


def test_a_start_that_the_tokenizer_does_not_know_as_special_is_not_answered(tmp_path, images):
    blip_folder.make(tmp_path, bos_token_id=6)
    wanted = [[_answer(tmp_path, image, question, 1) for question in ASKED] for image in images]
    assert VQA.load(tmp_path).answers(images, [ASKED] * len(images)) == wanted


def test_long_questions_fit_up_to_the_limit(hub_folder):
    vqa = VQA.load(hub_folder)
    assert vqa.tokenize(["red " * 3])[0].shape == (1, 16)
    assert vqa.tokenize(["red " * 38, "red"])[0].shape == (2, 40)
    with pytest.raises(ValueError, match="41 tokens; the model reads 40"):
        vqa.tokenize(["red", "red " * 39])


def test_weights_of_other_tasks_warn(hub_folder, tmp_path, images):
    _copy(hub_folder, tmp_path)
    extra = (
        "text_encoder.pooler.dense.weight", "itm_head.weight", "logit_scale",
        "vision_proj.bias", "text_encoder.embeddings.position_ids",
    )  # fmt: skip
    tensors = load_file(hub_folder / "model.safetensors")
    tensors |= {key: np.ones(2, np.float32) for key in extra}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="no use for itm_head.weight, logit_scale") as record:
        vqa = VQA.load(tmp_path)
    assert len(record) == 1 and "position_ids" not in str(record[0].message)
    wanted = VQA.load(hub_folder).answers(images, [ASKED] * 4)
    assert vqa.answers(images, [ASKED] * 4) == wanted


def test_a_layer_that_the_config_lacks_is_refused(hub_folder, tmp_path):
    _copy(hub_folder, tmp_path)
    tensors = load_file(hub_folder / "model.safetensors")
    tensors["text_encoder.encoder.layer.2.output.dense.bias"] = np.ones(2, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"unexpected \(1\): text_encoder.encoder.layer.2"):
        VQA.load(tmp_path)


def test_images_of_another_size_than_the_model_reads_are_refused(hub_folder, tmp_path):
    _copy(hub_folder, tmp_path)
    blip_folder.write(tmp_path, "preprocessor_config.json", {"size": 64})
    with pytest.raises(ValueError, match=r"\(64, 64\) and the model reads \(32, 32\)"):
        VQA.load(tmp_path)


def test_a_folder_without_processor_or_answers_is_refused(hub_folder, tmp_path):
    _copy(hub_folder, tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"processor_config.json or preprocessor_config"):
        VQA.load(tmp_path)
    blip_folder.write(tmp_path, "preprocessor_config.json", {"size": 32})
    vocabulary = (tmp_path / "vocab.txt").read_text(encoding="utf-8")
    (tmp_path / "vocab.txt").write_text(vocabulary.replace("yes", "si"), encoding="utf-8")
    with pytest.raises(ValueError, match="no yes token"):
        VQA.load(tmp_path)


def _copy(folder, target):
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


@functools.cache
def _oracle(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = transformers.BlipProcessor.from_pretrained(folder)
        return processor, transformers.BlipForQuestionAnswering.from_pretrained(folder).eval()


def _answer(folder, image, question, start=0):
    processor, oracle = _oracle(folder)
    inputs = _inputs(processor, image, question)
    tokens = oracle.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS)[0]
    return processor.decode(tokens[start:], skip_special_tokens=True)


def _inputs(processor, image, question):
    """One question: without padding, which transformers does not hide from the decoder."""
    return dict(processor(images=Image.fromarray(image), text=question, return_tensors="pt"))


@torch.no_grad()
def _logits(oracle, start, *, input_ids, attention_mask, pixel_values):
    """transformers' own forward, up to the logits that it does not return."""
    states = oracle.vision_model(pixel_values).last_hidden_state
    asked = oracle.text_encoder(
        input_ids, attention_mask=attention_mask, encoder_hidden_states=states
    ).last_hidden_state
    return oracle.text_decoder(start, encoder_hidden_states=asked).logits[0, -1]
