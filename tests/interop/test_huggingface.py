"""The leaf rule is a bijection: round trips are exact and every wrong key is named."""

import numpy as np
import pytest
import torch
from flax import nnx

from rbjax.interop import huggingface, json_files


class Block(nnx.Module):
    """One of each kind of leaf, in a list."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 5, rngs=rngs)
        self.plain = nnx.Linear(5, 2, use_bias=False, rngs=rngs)
        self.conv = nnx.Conv(3, 7, (2, 5), rngs=rngs)
        self.norm = nnx.GroupNorm(6, num_groups=3, rngs=rngs)


class Model(nnx.Module):
    """A list of blocks, an embedding and a bare parameter that is called like a norm's."""

    tied_keys = {"copy.weight": "words.weight"}
    ignored_keys = ("position_ids",)

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.words = nnx.Embed(11, 4, rngs=rngs)
        self.scale = nnx.Param(rngs.normal((1, 4)))
        self.offset = nnx.Param(rngs.normal((3,)))


def test_keys_and_shapes_are_those_of_torch():
    shapes = {key: value.shape for key, value in huggingface.state_dict(Model(0)).items()}
    assert shapes["blocks.1.linear.weight"] == (5, 3)
    assert shapes["blocks.0.conv.weight"] == (7, 3, 2, 5)
    assert shapes["blocks.0.norm.weight"] == (6,)
    assert shapes["words.weight"] == (11, 4)
    assert shapes["scale"] == (1, 4)
    assert "blocks.0.plain.bias" not in shapes
    assert len(shapes) == 2 * 7 + 3


def test_weights_mean_the_same_in_torch():
    block = Block(nnx.Rngs(0))
    state = {key: torch.tensor(value) for key, value in huggingface.state_dict(block).items()}
    x = np.random.default_rng(0).normal(size=(2, 8, 9, 3)).astype(np.float32)
    nchw = torch.tensor(x.transpose(0, 3, 1, 2))
    conv = torch.nn.functional.conv2d(nchw, state["conv.weight"], state["conv.bias"]).numpy()
    ours = nnx.Conv(3, 7, (2, 5), padding="VALID", rngs=nnx.Rngs(1))
    ours.kernel, ours.bias = block.conv.kernel, block.conv.bias
    np.testing.assert_allclose(ours(x), conv.transpose(0, 2, 3, 1), atol=1e-5)
    linear = torch.nn.functional.linear(
        torch.tensor(x), state["linear.weight"], state["linear.bias"]
    )
    np.testing.assert_allclose(block.linear(x), linear, atol=1e-5)


def test_round_trip_through_a_folder_is_exact(tmp_path):
    first, second = Model(0), Model(1)
    huggingface.save(first, tmp_path, {"size": 3})
    huggingface.fill(second, tmp_path)
    expected, loaded = huggingface.state_dict(first), huggingface.state_dict(second)
    assert expected.keys() == loaded.keys()
    assert all((expected[key] == loaded[key]).all() for key in expected)
    assert json_files.read_config(tmp_path) == {"size": 3}


def test_a_failure_leaves_the_old_weights_and_config(tmp_path):
    model = Model(0)
    huggingface.save(model, tmp_path, {"size": 3})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError):
        huggingface.save(Model(1), tmp_path, {"size": object()})  # not JSON
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_half_precision_files_load_as_float32(tmp_path):
    model = Model(0)
    huggingface.save(model, tmp_path, {}, dtype=np.float16)
    huggingface.fill(model, tmp_path)
    assert model.words.embedding.dtype == np.float32


def test_every_wrong_key_is_named_and_nothing_is_changed():
    model = Model(0)
    before = huggingface.state_dict(model)
    tensors = huggingface.state_dict(Model(1)) | {"extra": np.zeros(1), "offset": np.zeros(4)}
    del tensors["scale"], tensors["words.weight"]
    with pytest.raises(ValueError) as error:
        huggingface.load_state_dict(model, tensors)
    for part in (
        "missing (2): scale, words.weight",
        "unexpected (1): extra",
        "offset (file (4,), model (3,))",
    ):
        assert part in str(error.value)
    assert all((before[key] == value).all() for key, value in huggingface.state_dict(model).items())


def test_the_folder_of_weights_that_do_not_fit_is_named(tmp_path):
    huggingface.save(Block(nnx.Rngs(0)), tmp_path, {})
    with pytest.raises(ValueError, match=f"{tmp_path}: the weights do not fit the Model of"):
        huggingface.fill(Model(0), tmp_path)


def test_not_strict_returns_missing_and_unexpected():
    tensors = huggingface.state_dict(Model(1)) | {"extra": np.zeros(1)}
    del tensors["scale"]
    assert huggingface.load_state_dict(Model(0), tensors, strict=False) == (["scale"], ["extra"])


def test_tied_copies_and_buffers_are_accepted():
    tensors = huggingface.state_dict(Model(1))
    extra = {"copy.weight": tensors["words.weight"], "a.position_ids": np.arange(3)}
    huggingface.load_state_dict(Model(0), tensors | extra)
    with pytest.raises(ValueError, match="copy.weight is tied to words.weight"):
        huggingface.load_state_dict(
            Model(0), tensors | {"copy.weight": tensors["words.weight"] + 1}
        )


def test_missing_file_says_where(tmp_path):
    with pytest.raises(FileNotFoundError, match="No weights at"):
        huggingface.fill(Model(0), tmp_path)
    with pytest.raises(FileNotFoundError, match="config.json"):
        json_files.read_config(tmp_path)
