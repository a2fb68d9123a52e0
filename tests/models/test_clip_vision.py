"""CLIP's image encoder and projections against transformers, on random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from rbjax.interop import huggingface

SIZES = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2)
TEXT = dict(vocab_size=57, max_position_embeddings=13, num_attention_heads=3, **SIZES)


def vision_config(**changes) -> dict:
    sizes = SIZES | {"hidden_size": 20, "num_attention_heads": 5}
    return sizes | dict(image_size=14, patch_size=4, projection_dim=7) | changes


def randomized(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def twin(model: torch.nn.Module) -> nnx.Module:
    ours = huggingface.build(model.config.to_dict() | {"architectures": [type(model).__name__]})
    huggingface.load_state_dict(ours, {k: v.numpy() for k, v in model.state_dict().items()})
    return ours


def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 14, 14, 3), np.float32)


@pytest.mark.parametrize("activation, eps", [("quick_gelu", 1e-5), ("gelu", 1e-3)])
def test_image_embeddings_equal_those_of_transformers(activation, eps):
    config = vision_config(hidden_act=activation, layer_norm_eps=eps)
    config = transformers.CLIPVisionConfig(**config)
    model = randomized(transformers.CLIPVisionModelWithProjection(config))
    with torch.no_grad():
        want = model(torch.tensor(images()).permute(0, 3, 1, 2)).image_embeds.numpy()
    found = nnx.jit(lambda m, x: m(x))(twin(model), images())
    np.testing.assert_allclose(found, want, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("end", [2, 55])
def test_features_of_both_kinds_equal_those_of_transformers(end):
    """`eos_token_id` 2 is what old files say; the end is then the largest id."""
    text = TEXT | {"eos_token_id": end, "bos_token_id": 1}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=vision_config(), projection_dim=6
    )
    model = randomized(transformers.CLIPModel(config))
    ids = np.random.default_rng(0).integers(3, 50, (4, 9))
    ids[[0, 1, 2, 3], [8, 2, 5, 3]] = 55
    ids[1, 5] = 55  # the first end counts
    ours = twin(model)
    with torch.no_grad():
        want = model.get_text_features(torch.tensor(ids))
        want_images = model.get_image_features(torch.tensor(images()).permute(0, 3, 1, 2))
    for found, expected in (
        (ours.get_text_features(jnp.asarray(ids)), want),
        (ours.get_image_features(jnp.asarray(images())), want_images),
    ):
        expected = getattr(expected, "pooler_output", expected).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_images_of_another_size_are_refused():
    model = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**vision_config())
    )
    with pytest.raises(ValueError, match=r"images are \(1, 8, 8, 3\)"):
        jax.eval_shape(twin(model), jnp.zeros((1, 8, 8, 3)))
