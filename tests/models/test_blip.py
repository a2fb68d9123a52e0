"""BLIP-VQA agrees with transformers on random weights of odd configs."""

import functools
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from rbjax.interop import huggingface
from rbjax.models.blip import BlipConfig, BlipForQuestionAnswering

TOKENS = {"bos_token_id": 5, "pad_token_id": 0, "sep_token_id": 3, "eos_token_id": 3}
CONFIGS = {
    "more text heads": (
        {"hidden_size": 30, "intermediate_size": 50, "num_hidden_layers": 2,
         "num_attention_heads": 3, "image_size": 42, "patch_size": 14, "layer_norm_eps": 1e-3},
        {"vocab_size": 37, "hidden_size": 30, "intermediate_size": 44, "num_hidden_layers": 3,
         "num_attention_heads": 5, "max_position_embeddings": 9},
    ),
    "other activations": (
        {"hidden_size": 66, "intermediate_size": 24, "num_hidden_layers": 3,
         "num_attention_heads": 11, "image_size": 20, "patch_size": 4, "hidden_act": "relu"},
        {"vocab_size": 61, "hidden_size": 66, "intermediate_size": 34, "num_hidden_layers": 1,
         "num_attention_heads": 6, "max_position_embeddings": 12, "hidden_act": "gelu_new"},
    ),
    "image cut by patches": (
        {"hidden_size": 15, "intermediate_size": 30, "num_hidden_layers": 1,
         "num_attention_heads": 1, "image_size": 23, "patch_size": 5},
        {"vocab_size": 23, "hidden_size": 15, "intermediate_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 3, "max_position_embeddings": 8, "layer_norm_eps": 1e-5},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda name: name.replace(" ", "_"))
def each_pair(request):
    """(the oracle, ours with its weights), for each config."""
    return _pair(*CONFIGS[request.param])


@pytest.fixture(scope="module")
def pair():
    """As `each_pair`, for one config."""
    return _pair(*CONFIGS["other activations"])


def _pair(vision, text):
    torch.manual_seed(0)
    config = transformers.BlipConfig(vision_config=vision, text_config=text | TOKENS)
    oracle = transformers.BlipForQuestionAnswering(config).eval()
    for (
        parameter
    ) in oracle.parameters():  # biases, norms and positions too, or they would not be tested
        parameter.data.normal_(0.0, 0.4)
    config = BlipConfig.from_dict(config.to_dict())
    ours = nnx.eval_shape(lambda: BlipForQuestionAnswering(config, nnx.Rngs(0)))
    huggingface.load_state_dict(ours, {k: v.numpy() for k, v in oracle.state_dict().items()})
    return oracle, ours


@pytest.fixture(scope="module")
def inputs(pair):
    """Images [3, H, W, 3], questions [3, 6], their mask, answers [3, 4]."""
    return _inputs(pair[1].config)


def _inputs(config):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(3, config.vision.image_size, config.vision.image_size, 3))
    questions = rng.integers(6, config.text.vocab_size, size=(3, 6))
    mask = np.arange(6) < np.array([[6], [3], [4]])
    answers = np.insert(rng.integers(6, config.text.vocab_size, size=(3, 3)), 0, 5, axis=1)
    return images.astype(np.float32), np.where(mask, questions, 0), mask.astype(np.int64), answers


def test_keys_are_those_of_transformers(each_pair):
    oracle, ours = each_pair
    state, keys = huggingface.state_dict(ours), set(oracle.state_dict())
    assert set(state) == keys - set(BlipForQuestionAnswering.tied_keys)
    assert all(state[key].shape == tuple(oracle.state_dict()[key].shape) for key in state)


def test_logits_agree(each_pair):
    oracle, ours = each_pair
    inputs = _inputs(ours.config)
    wanted = _oracle_logits(oracle, *inputs)
    with jax.default_matmul_precision("highest"):
        logits = _logits(ours, *inputs)
    assert np.abs(wanted).max() > 0.5
    np.testing.assert_allclose(logits, wanted, atol=1e-4)


@pytest.mark.parametrize("longest", [3, 4, 9])
def test_generate_agrees(pair, inputs, longest):
    oracle, ours = pair
    images, questions, mask, _ = inputs
    wanted = oracle.generate(
        torch.tensor(questions),
        _nchw(images),
        torch.tensor(mask),
        max_new_tokens=longest,
        do_sample=False,
    ).numpy()
    with jax.default_matmul_precision("highest"):
        tokens = np.asarray(_generate(ours, images, questions, mask, max_new_tokens=longest))
    length = wanted.shape[1]
    assert length == 1 + longest  # one of the answers is as long as can be
    assert (tokens[:, :length] == wanted).all() and (tokens[:, length:] == 0).all()


def test_hidden_padding_changes_nothing(pair, inputs):
    _, ours = pair
    images, questions, mask, answers = inputs
    logits = _logits(ours, images[:1], questions, mask, answers, hide_padding=True)
    alone = _logits(ours, images[:1], questions[1:2, :3], None, answers[1:2])
    np.testing.assert_allclose(logits[1:2], alone, atol=1e-5)


def test_questions_share_an_image(pair, inputs):
    images = np.repeat(inputs[0][:1], 3, axis=0)
    shared = _logits(pair[1], images[:1], *inputs[1:], hide_padding=True)
    np.testing.assert_allclose(
        shared, _logits(pair[1], images, *inputs[1:], hide_padding=True), atol=1e-5
    )


def test_transformers_reads_what_we_save(pair, inputs, tmp_path):
    _, ours = pair
    config = ours.config.to_dict()
    assert BlipConfig.from_dict(config) == ours.config
    huggingface.save(ours, tmp_path)
    loaded, info = transformers.BlipForQuestionAnswering.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    wanted = _oracle_logits(loaded.eval(), *inputs)
    np.testing.assert_allclose(_logits(ours, *inputs), wanted, atol=1e-4)


def test_wrong_inputs_are_named(pair, inputs):
    images, questions, mask, answers = inputs
    with pytest.raises(ValueError, match="Expected images"):
        pair[1](images[:, 1:], questions, mask, answers)
    with pytest.raises(ValueError, match="cannot be shared"):
        pair[1](images[:2], questions, mask, answers)
    with pytest.raises(ValueError, match="max_position_embeddings"):
        pair[1](images, np.repeat(questions, 3, axis=1), None, answers)


def test_wrong_configs_are_named():
    with pytest.raises(ValueError, match="not a multiple"):
        sizes = {"hidden_size": 10, "num_attention_heads": 3}
        config = BlipConfig.from_dict({"vision_config": sizes, "text_config": sizes})
        nnx.eval_shape(lambda: BlipForQuestionAnswering(config, nnx.Rngs(0)))
    with pytest.raises(ValueError, match="same hidden_size"):
        BlipConfig.from_dict({"text_config": sizes})
    with pytest.raises(ValueError, match="Unknown hidden_act"):
        config = BlipConfig.from_dict({"vision_config": {"hidden_act": "swish5"}})
        nnx.eval_shape(lambda: BlipForQuestionAnswering(config, nnx.Rngs(0)))


@functools.partial(nnx.jit, static_argnames="hide_padding")
def _logits(model, *inputs, hide_padding=False):
    return model(*inputs, hide_padding=hide_padding)


@functools.partial(nnx.jit, static_argnames="max_new_tokens")
def _generate(model, images, *inputs, max_new_tokens=4):
    states = model.vision_model(images)
    return model.generate(states, *inputs, max_new_tokens=max_new_tokens, hide_padding=False)


def _nchw(images: np.ndarray) -> torch.Tensor:
    return torch.tensor(images.transpose(0, 3, 1, 2))


@torch.no_grad()
def _oracle_logits(oracle, images, questions, mask, answers) -> np.ndarray:
    """transformers' own forward, up to the logits that it does not return."""
    questions, mask = torch.tensor(questions), torch.tensor(mask)
    states = oracle.vision_model(_nchw(images)).last_hidden_state
    asked = oracle.text_encoder(
        questions,
        attention_mask=mask,
        encoder_hidden_states=states,
        encoder_attention_mask=torch.ones(states.shape[:2], dtype=torch.long),
    ).last_hidden_state
    output = oracle.text_decoder(
        torch.tensor(answers), encoder_hidden_states=asked, encoder_attention_mask=mask
    )
    return output.logits.numpy()
