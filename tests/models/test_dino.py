"""DINO's image encoders against transformers, on random weights."""

import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from rbjax.interop import huggingface

SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=20)
VIT = SIZES | {"intermediate_size": 40, "patch_size": 4}
KINDS = {
    "v1": (transformers.ViTModel, transformers.ViTConfig(**VIT)),
    "v1, other numbers": (
        transformers.ViTModel,
        transformers.ViTConfig(**VIT | {"layer_norm_eps": 1e-3, "hidden_size": 15}),
    ),
    "v2": (
        transformers.Dinov2Model,
        transformers.Dinov2Config(**SIZES, patch_size=5, mlp_ratio=2),
    ),
}


def saved(folder, kind):
    torch.manual_seed(0)
    model = KINDS[kind][0](KINDS[kind][1]).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


def difference(model, ours, shape):
    """The largest one of all states, as a share of the largest state."""
    images = np.random.default_rng(0).standard_normal((3, *shape, 3), np.float32)
    found = np.asarray(nnx.jit(lambda m, x: m(x))(ours, images))
    more = {"interpolate_pos_encoding": True} if isinstance(model, transformers.ViTModel) else {}
    with torch.no_grad():
        want = model(torch.tensor(images).permute(0, 3, 1, 2), **more).last_hidden_state.numpy()
    assert found.shape == want.shape
    return np.abs(found - want).max() / np.abs(want).max()


@pytest.mark.parametrize("kind", KINDS)
def test_states_equal_those_of_transformers(kind, tmp_path):
    model = saved(tmp_path, kind)
    ours = huggingface.load(tmp_path)
    shapes = [(20, 20)] if "other" in kind else [(20, 20), (40, 60)]
    assert max(difference(model, ours, shape) for shape in shapes) < 1e-5


def test_keys_of_memory_are_those_of_files(tmp_path):
    model = saved(tmp_path, "v1")
    ours = huggingface.build(model.config.to_dict() | {"architectures": ["ViTModel"]})
    huggingface.load_state_dict(ours, {k: v.numpy() for k, v in model.state_dict().items()})
    for a, b in zip(
        *(huggingface.state_dict(m).values() for m in (ours, huggingface.load(tmp_path))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_what_is_not_supported_is_named():
    config = {"architectures": ["Dinov2Model"], "model_type": "dinov2", "use_swiglu_ffn": True}
    with pytest.raises(ValueError, match="use_swiglu_ffn"):
        huggingface.build(config)
    ours = huggingface.build({"architectures": ["ViTModel"], **VIT})
    with pytest.raises(ValueError, match="multiples of the 4 pixels"):
        nnx.eval_shape(lambda: ours(np.zeros((1, 21, 20, 3), np.float32)))
