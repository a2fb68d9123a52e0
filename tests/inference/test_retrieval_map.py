"""The retrieval map, where it is known what is read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rbjax.demo_page import gallery, pictures
from rbjax.inference import generation, model_loading, retrieval_map
from rbjax.inference.reference import Reference
from rbjax.interop.saved_model import Model
from rbjax.models import attention
from rbjax.models.params import nnx_state
from tests.helpers import tiny_saved_model

PROMPT = "smile"


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)


def references(count: int = 2) -> list[Reference]:
    concepts = ("face", "clothes", "character")
    return [Reference(concepts[i], picture(i)) for i in range(count)]


@pytest.fixture(scope="module")
def model():
    return tiny_saved_model.model()


def with_conjunctions(model: Model, change) -> Model:
    """A model whose conjunctions `change` has changed."""
    pipeline = nnx.merge(model.graphdef, nnx_state(model.params))
    for conjunction in pipeline.retrinet.conjunctions:
        change(conjunction)
    return dataclasses.replace(model, params=nnx.to_pure_dict(nnx.state(pipeline, nnx.Param)))


def read_by_position(conjunction: nnx.Module) -> None:
    """Content counts nothing, equal positions count most."""
    for norm in (conjunction.norm_query, conjunction.norm_reference):
        norm.scale.set_value(jnp.zeros_like(norm.scale[...]))
        norm.bias.set_value(jnp.zeros_like(norm.bias[...]))
    for projection in (conjunction.attn.to_q, conjunction.attn.to_k):
        projection.kernel.set_value(40 * jnp.eye(*projection.kernel.shape))


def compute(model: Model, given: list[Reference]) -> retrieval_map.RetrievalMap:
    sampled = generation.sample(model, PROMPT, given, num_images=2, seed=3)
    return retrieval_map.retrieval_map(model, sampled)


def test_weights_of_a_region_sum_to_one(model):
    found = compute(model, references(3))
    assert found.weights.shape == (2, 4, 4, 3, 4, 4)
    np.testing.assert_allclose(found.weights.sum(axis=(-3, -2, -1)), 1, atol=1e-5)
    np.testing.assert_allclose(found.shares().sum(axis=-1), 1, atol=1e-5)
    assert found.weights.std() > 1e-3  # a uniform map would pass all the above


def test_in_place_references_are_read_where_the_region_is():
    model = tiny_saved_model.model(heads=1)  # a head of sines without cosines tells no place
    found = compute(with_conjunctions(model, read_by_position), references())
    own = np.stack(np.meshgrid(*[np.arange(4)] * 2, indexing="ij"), axis=-1)  # [4, 4, 2]
    levels = found.weights[0].sum(axis=2)  # over the references, which share the place
    for y, x in own.reshape(-1, 2):
        block = levels[y, x, y // 2 * 2 : y // 2 * 2 + 2, x // 2 * 2 : x // 2 * 2 + 2]
        assert block.sum() > 0.99  # the coarse level tells no more than this block of 2 x 2
        assert levels[y, x, y, x] > 0.6  # half (fine level) and an eighth (coarse)
    assert (found.places()[0] == own[:, :, None]).all()
    np.testing.assert_allclose(found.shares(), 0.5, atol=1e-5)  # equal positions, equal shares


def test_a_masked_reference_carries_no_mass(model):
    sampled = generation.sample(model, PROMPT, references())
    mask = np.array([[True, False]])
    masked = dataclasses.replace(
        sampled, batch=dataclasses.replace(sampled.batch, reference_mask=mask)
    )
    shares = retrieval_map.retrieval_map(model, masked).shares()
    assert (shares[..., 1] == 0).all()
    np.testing.assert_allclose(shares[..., 0], 1, atol=1e-5)


def test_without_references_nothing_is_read(model):
    assert not compute(model, []).weights.any()


def test_the_weights_are_those_that_the_conjunction_applies(model):
    pipeline = nnx.merge(model.graphdef, nnx_state(model.params))
    conjunction = pipeline.retrinet.conjunctions[0]
    conjunction.attn.heads = 1  # of several heads the mean alone is known
    x, maps = (jax.random.normal(jax.random.key(i), (2, 4, 4, 8)) for i in range(2))
    key, value = conjunction.keys_values(maps, 1)  # one example with two references
    mask = np.array([[True, True]])
    weights = conjunction.weights(x[:1], key=key, mask=mask)
    read = conjunction.attn.to_out[0](weights @ value)
    expected = conjunction.zero_conv(read.reshape(1, 4, 4, 8))
    found = conjunction(x[:1], key=key, value=value, mask=mask)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_of_heads_are_averaged():
    query, key = (jax.random.normal(jax.random.key(i), (2, 3 + i, 2, 5)) for i in range(2))
    mask = np.array([[True, True, False, True], [True] * 4])
    logits = np.einsum("btnd,bsnd->bnts", query, key) / np.sqrt(5)
    power = np.exp(logits) * mask[:, None, None]
    expected = (power / power.sum(axis=-1, keepdims=True)).mean(axis=1)
    found = attention.mean_weights(query, key, jnp.asarray(mask))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("size,regions", [(4, 8), (8, 4), (5, 3), (7, 7)])
def test_grids_keep_the_mass(size, regions):
    weights = np.random.default_rng(0).random((1, size, size, 2, size, size), np.float32)
    weights /= weights.sum(axis=(-3, -2, -1), keepdims=True)
    found = retrieval_map._to_regions(jnp.asarray(weights), (regions, regions), (regions, 2))
    assert found.shape == (1, regions, regions, 2, regions, 2)
    np.testing.assert_allclose(found.sum(axis=(-3, -2, -1)), 1, atol=1e-5)


def test_images_are_those_of_generate(model):
    sampled = generation.sample(model, PROMPT, references(), num_images=2, seed=3)
    images = generation.generate(model, PROMPT, references(), num_images=2, seed=3)
    assert sampled.images.tobytes() == images.tobytes()
    assert sampled.latents.shape == (tiny_saved_model.SAMPLING["steps"], 2, 4, 4, 12)


@pytest.mark.slow
def test_the_shipped_model_reads_face_and_clothes_where_they_are_drawn():
    portraits = gallery.portraits()[:2]
    items = [
        gallery.item(portrait, concept)
        for portrait, concept in zip(portraits, ("face", "clothes"), strict=True)
    ]
    shipped = model_loading.load_model()
    given = pictures.read_references(items)
    sampled = generation.sample(shipped, "smile, blue background", given)
    found = retrieval_map.retrieval_map(shipped, sampled)
    face, clothes = np.moveaxis(found.shares()[0], -1, 0)  # [h, w]
    height = len(face)
    left, top, width, rows = (side * height / 128 for side in portraits[0].boxes["face"])
    inside = np.s_[int(np.ceil(top)) : int(top + rows), int(np.ceil(left)) : int(left + width)]
    assert face[inside].mean() > 0.75
    assert clothes[int(np.ceil(top + rows)) :].mean() > 0.75
    if shipped.config.data.view == "in_place":
        own = np.stack(np.meshgrid(*[np.arange(height)] * 2, indexing="ij"), axis=-1)
        away = np.abs(found.places()[0, :, :, 0] - own).max(axis=-1)
        assert (away[inside] <= 1).mean() > 0.9
