"""Attention in each way, against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rbjax.models import attention

SHAPES = {"query": (2, 7, 3, 5), "key": (2, 9, 3, 5), "value": (2, 9, 3, 5)}  # [B, T or S, N, D]


def arrays() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype(np.float32) for shape in SHAPES.values()]


def of_torch(inputs, mask, causal):
    """Output, and gradients of the sum of its squares."""
    query, key, value = (torch.tensor(x).transpose(1, 2).requires_grad_() for x in inputs)
    visible = torch.ones(2, 1, 7, 9, dtype=torch.bool)
    visible = visible if mask is None else visible & torch.tensor(mask)[:, None, None]
    visible = visible.tril() if causal else visible
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    grads = torch.autograd.grad((out**2).sum(), (query, key, value))
    return [x.detach().transpose(1, 2).numpy() for x in (out, *grads)]


@pytest.mark.parametrize("way", ["by_head", "heads_in_turn", "at_once"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_outputs_and_gradients_equal_torch(monkeypatch, way, masked, causal):
    monkeypatch.setattr(attention, "LARGE", 10**9 if way == "at_once" else 1)
    monkeypatch.setattr(attention, "by_head", getattr(attention, way))  # what CPUs take
    inputs = arrays()
    mask = np.arange(9) % 4 < np.array([[2], [3]]) if masked else None

    def loss(*inputs):
        out = attention.attention(*inputs, mask, causal=causal)
        return (out**2).sum(), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*inputs)
    for found, expected in zip((out, *grads), of_torch(inputs, mask, causal), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_large_maps_go_by_head_on_a_cpu():
    shape = (1, 512, 1, 4)  # 512 * 512 logits
    compiled = jax.jit(attention.attention).lower(*[jnp.ones(shape)] * 3).compile()
    assert "while" in compiled.as_text()


def test_heads_in_turn_keep_no_logits():
    shape = (2, 64, 4, 8)
    inputs = [jnp.ones(shape)] * 3

    def sizes(way):
        kept = jax.eval_shape(lambda *x: jax.vjp(way, *x)[1], *inputs)
        return [leaf.size for leaf in jax.tree.leaves(kept)]

    logits = 2 * 64 * 4 * 64
    assert max(sizes(attention.at_once)) >= logits
    assert max(sizes(attention.heads_in_turn)) < logits


class Device:
    compute_capability = "9.0"


@pytest.mark.parametrize(
    "shape, dtype, capability, fits",
    [
        ((1, 8, 2, 40), "bfloat16", "9.0", True),
        ((1, 8, 2, 128), "float16", "12.1", True),
        ((1, 8, 2, 40), "float32", "9.0", False),
        ((1, 8, 2, 41), "bfloat16", "9.0", False),
        ((1, 8, 2, 160), "bfloat16", "9.0", False),
        ((1, 9, 2, 40), "bfloat16", "9.0", False),
        ((1, 8, 2, 40), "bfloat16", "7.5", False),
    ],
)
def test_what_flash_attention_takes(monkeypatch, shape, dtype, capability, fits):
    monkeypatch.setattr(Device, "compute_capability", capability)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [Device])
    query = jnp.zeros(shape, dtype)
    assert attention.flash_fits(query, query) == fits


@pytest.fixture
def cudnn(monkeypatch):
    """What cuDNN is given; XLA computes it, because there is no GPU."""
    monkeypatch.setattr(attention, "LARGE", 1)
    monkeypatch.setattr(attention, "flash_fits", lambda query, key: True)
    given, original = {}, jax.nn.dot_product_attention

    def computed(*inputs, implementation=None, **options):
        given.update(options, implementation=implementation)
        return original(*inputs, **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", computed)
    return given


@pytest.mark.parametrize(
    "mask",
    [
        np.arange(9) < np.array([[2], [9]]),  # padding, and none
        np.arange(9) % 4 < np.array([[2], [3]]),  # holes
        np.arange(9) > np.array([[2], [3]]),  # padding before
    ],
)
def test_cudnn_is_given_lengths_in_place_of_a_mask(cudnn, mask):
    inputs = arrays()

    def loss(*inputs):
        out = attention.attention(*inputs, mask)
        return (out**2).sum(), out

    (_, out), grads = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*map(jnp.asarray, inputs))
    assert cudnn["implementation"] == "cudnn" and cudnn["mask"] is None
    np.testing.assert_array_equal(cudnn["key_value_seq_lengths"], mask.sum(1))
    for found, expected in zip((out, *grads), of_torch(inputs, mask, False), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_causal_attention_gives_cudnn_a_mask_of_every_query(cudnn):
    mask = np.arange(9) < np.array([[2], [3]])
    out = attention.attention(*map(jnp.asarray, arrays()), jnp.asarray(mask), causal=True)
    assert cudnn["mask"].shape == (2, 1, 7, 9) and cudnn["key_value_seq_lengths"] is None
    np.testing.assert_allclose(out, of_torch(arrays(), mask, True)[0], atol=1e-5)


def test_padding_that_is_last_stays_where_it_is():
    key, value = map(jnp.asarray, arrays()[1:])
    mask = jnp.arange(9) < jnp.array([[2], [9]])
    moved = attention.visible_first(key, value, mask)
    for found, expected in zip(moved, (key, value, [2, 9]), strict=True):
        np.testing.assert_array_equal(found, expected)
