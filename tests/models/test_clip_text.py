"""CLIP's text encoder against transformers, on random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from rbjax.interop import huggingface
from rbjax.models import clip_text

SIZES = dict(
    vocab_size=57,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=3,
    max_position_embeddings=13,
)


def torch_model(**config) -> transformers.CLIPTextModel:
    torch.manual_seed(0)
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**SIZES, **config)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("heads, eps, length", [(1, 1e-5, 13), (3, 1e-3, 7)])
def test_states_equal_those_of_transformers(activation, heads, eps, length):
    config = dict(hidden_act=activation, num_attention_heads=heads, layer_norm_eps=eps)
    oracle = torch_model(**config)
    model = clip_text.CLIPTextModel(
        clip_text.CLIPTextConfig.from_dict(oracle.config.to_dict()), nnx.Rngs(0)
    )
    tensors = {name: value.numpy() for name, value in oracle.state_dict().items()}
    huggingface.load_state_dict(model, tensors)
    ids = np.random.default_rng(0).integers(0, 57, size=(4, length))
    with torch.no_grad():
        want = oracle(torch.tensor(ids)).last_hidden_state.numpy()
    np.testing.assert_allclose(nnx.jit(model)(ids), want, atol=1e-4)


def test_later_tokens_do_not_change_earlier_states():
    model = clip_text.CLIPTextModel(
        clip_text.CLIPTextConfig(**SIZES, num_attention_heads=2), nnx.Rngs(0)
    )
    ids = jnp.array([[5, 9, 1, 30]])
    states, changed = model(ids), model(ids.at[0, 3].set(7))
    np.testing.assert_allclose(states[:, :3], changed[:, :3], atol=1e-6)
    assert jnp.abs(states[:, 3] - changed[:, 3]).max() > 1e-3


def test_keys_of_older_files_are_accepted():
    model = clip_text.CLIPTextModel(clip_text.CLIPTextConfig(**SIZES), nnx.Rngs(0))
    new = huggingface.state_dict(model)
    old = {f"text_model.{key}": value for key, value in new.items()}
    other = clip_text.CLIPTextModel(clip_text.CLIPTextConfig(**SIZES), nnx.Rngs(1))
    positions = {"text_model.embeddings.position_ids": np.arange(13)[None]}
    huggingface.load_state_dict(other, old | positions)
    found = huggingface.state_dict(other)
    assert all((found[key] == value).all() for key, value in new.items())


def test_impossible_configs_and_long_prompts_are_refused():
    with pytest.raises(ValueError, match="hidden_act is 'relu'"):
        clip_text.CLIPTextConfig(hidden_act="relu")
    with pytest.raises(ValueError, match="not a multiple"):
        clip_text.CLIPTextConfig(hidden_size=10, num_attention_heads=3)
    model = clip_text.CLIPTextModel(
        clip_text.CLIPTextConfig(**SIZES, num_attention_heads=2), nnx.Rngs(0)
    )
    with pytest.raises(ValueError, match="14 tokens"):
        jax.eval_shape(model, jnp.zeros((1, 14), int))
