"""The VQA class on a tiny random model, and the packaged one."""

import functools
import json

import jax
import numpy as np
import pytest
import tokenizers
from flax import nnx

from rbjax.interop import huggingface
from rbjax.models.blip import BlipConfig, BlipForQuestionAnswering
from rbjax.parallel import mesh as mesh_lib
from rbjax.vqa import model as model_lib

WORDS = "[PAD] [UNK] [CLS] [SEP] [DEC] yes no is there what color red blue hat ?".split()
ACCURACY = {"asked": {"color": [32, 64], "hat": [64]}, "phrases": {"color": [64], "hat": []}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model of one layer that reads seven tokens."""
    folder = tmp_path_factory.mktemp("vqa")
    sizes = {
        "hidden_size": 12,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = BlipConfig.from_dict({
        "vision_config": sizes | {"image_size": 16, "patch_size": 8},
        "text_config": sizes | {
            "vocab_size": len(WORDS), "max_position_embeddings": 7, "bos_token_id": 4,
            "pad_token_id": 0, "sep_token_id": 3,
        },
    })  # fmt: skip
    model = nnx.jit(lambda: BlipForQuestionAnswering(config, nnx.Rngs(0)))()
    huggingface.save(model, folder)
    _tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "accuracy.json").write_text(json.dumps(ACCURACY))
    return folder


@pytest.fixture(scope="module")
def vqa(folder):
    return model_lib.VQA.load(folder)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (3, 24, 24, 3)).astype(np.float32)


def test_an_answer_depends_on_its_image_and_question_alone(vqa, images):
    questions = [["what color?"], [], ["is there hat?", "what color?"]]
    answers = vqa.answers(images, questions)
    assert [len(row) for row in answers] == [1, 0, 2]
    many = vqa.answers(np.repeat(images, 12, axis=0), [row for row in questions for _ in range(12)])
    assert many[0] == answers[0] and many[12] == [] and many[35] == answers[2]


def test_probabilities_are_those_of_yes_against_no(vqa, images):
    first, second, _ = vqa.probability_yes(images, [["red hat", "blue hat"], ["red hat"], []])
    assert first.shape == (2,) and second.shape == (1,)
    assert ((0 < first) & (first < 1)).all()


def test_nine_phrases_are_each_their_own(vqa, images):
    """Phrases are asked in blocks of eight."""
    phrases = [f"{color} hat" for color in ("red", "blue", "color")] * 3
    (together,) = vqa.probability_yes(images[:1], [phrases])
    apart = [vqa.probability_yes(images[:1], [[phrase]])[0][0] for phrase in phrases]
    assert together.shape == (9,)
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_an_image_is_seen_once_for_questions_phrases_and_embedding(vqa, images, monkeypatch):
    questions = [["what color?"], [], ["is there hat?", "what color?"]]
    phrases = [["red hat"], ["hat", "blue hat"], []]
    separate = vqa.answers(images, questions), vqa.probability_yes(images, phrases)
    vqa._means.clear()
    means, seen = vqa.embed_images(images), []
    see = vqa._see
    monkeypatch.setattr(vqa, "_see", lambda *args: seen.append(args) or see(*args))
    vqa._means.clear()
    answers, probabilities = vqa.ask(images, questions, phrases)
    np.testing.assert_array_equal(vqa.embed_images(images[::-1]), means[::-1])
    assert len(seen) == 1 and answers == separate[0]
    for found, wanted in zip(probabilities, separate[1], strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert vqa.ask(images, [[]] * 3, [[]] * 3)[0] == [[]] * 3 and len(seen) == 1


def test_answers_are_the_same_over_the_devices_of_a_mesh(folder, images):
    many = np.concatenate([images * share for share in np.linspace(0.1, 1, 15)])
    questions, phrases = [["what color?"]] * 45, [["red hat", "blue hat"]] * 45
    alone = model_lib.VQA.load(folder)
    spread = model_lib.VQA.load(folder)
    one = alone.ask(many, questions, phrases), alone.embed_images(many)
    with jax.set_mesh(mesh_lib.make_mesh(2, 2, 2)):
        states = spread._states(many[:32], 32)
        assert {shard.data.shape[0] for shard in states.addressable_shards} == {8}
        all_of_them = spread.ask(many, questions, phrases), spread.embed_images(many)
    assert one[0][0] == all_of_them[0][0]
    np.testing.assert_allclose(one[0][1], all_of_them[0][1], atol=1e-6)
    np.testing.assert_allclose(one[1], all_of_them[1], atol=1e-6)
    assert spread.answers(many, questions) == one[0][0]  # without the mesh again


def test_what_may_be_asked_depends_on_the_size(vqa):
    assert vqa.asked_at(48) == {"color"}
    assert vqa.asked_at(512) == {"color", "hat"}
    assert vqa.phrases_at(64) == {"color"}


def test_wrong_inputs_are_named(vqa, images):
    with pytest.raises(ValueError, match="N lists of questions"):
        vqa.answers(images, [["what color?"]])
    with pytest.raises(ValueError, match="10 tokens; the model reads 7"):
        vqa.tokenize(["is there red blue red blue hat?"])


def test_a_missing_file_is_named(folder, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(FileNotFoundError, match="accuracy.json"):
        model_lib.VQA.load(tmp_path)


@pytest.mark.parametrize(
    "accuracy", [{}, {"asked": {}}, {"asked": ["hat"], "phrases": {}}]
    + [{"asked": {"hat": sizes}, "phrases": {}} for sizes in (None, "x", 64, ["64"])]
)  # fmt: skip
def test_damage_in_what_may_be_asked_is_named(folder, tmp_path, accuracy):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "accuracy.json").write_text(json.dumps(accuracy))
    with pytest.raises(ValueError, match="accuracy.json: '(asked|phrases)' is not an object"):
        model_lib.VQA.load(tmp_path)


def test_words_without_a_token_are_not_known(vqa):
    assert vqa.knows("red hat") and not vqa.knows("red cat") and not vqa.knows("xyzzy")


def test_another_model_is_refused(folder, monkeypatch):
    linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    monkeypatch.setattr(model_lib.huggingface, "load", lambda *_, **__: linear)
    with pytest.raises(ValueError, match="holds a Linear, not a BLIP-VQA"):
        model_lib.VQA.load(folder)


def test_the_packaged_model_loads_and_is_small():
    vqa = model_lib.VQA.load()
    assert {"background", "clothing_color", "hair_color"} <= vqa.asked_at(48)
    assert sum(file.stat().st_size for file in model_lib.PACKAGED.iterdir()) < 8 * 2**20


def test_the_packaged_model_sees_a_flat_background():
    colors = {"red": (214, 38, 38), "green": (52, 160, 68), "blue": (44, 92, 208)}
    images = np.stack(
        [np.full((48, 48, 3), rgb, np.float32) / 127.5 - 1 for rgb in colors.values()]
    )
    answers = model_lib.VQA.load().answers(images, [["what color is the background?"]] * 3)
    assert [row[0] for row in answers] == list(colors)


@functools.cache
def _tokenizer() -> tokenizers.Tokenizer:
    ids = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
