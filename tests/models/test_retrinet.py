"""RetriNet: what references may and may not change."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rbjax.models.retrinet import RetriNet, RetriNetConfig
from rbjax.models.unet_config import UNetConfig
from tests.helpers import tiny_pipeline

UNET = UNetConfig(
    in_channels=5,
    out_channels=5,
    block_out_channels=(12, 18),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    layers_per_block=1,
    attention_head_dim=3,
    cross_attention_dim=10,
    norm_num_groups=6,
)
CONFIG = RetriNetConfig(unet=UNET, heads=3, positions=True, reference_timestep="target")


@functools.cache
def fresh() -> RetriNet:
    return nnx.jit(lambda: RetriNet(CONFIG, nnx.Rngs(0)))()


@functools.cache
def awake(**changes) -> RetriNet:
    """With zero convolutions that are not zero; the parameters do not depend on the changes."""
    config = dataclasses.replace(CONFIG, **changes)
    retrinet = nnx.jit(lambda: RetriNet(config, nnx.Rngs(0)))()
    tiny_pipeline.awaken(retrinet)
    return retrinet


def inputs(count: int = 3) -> dict[str, jax.Array]:
    """Arguments of RetriNet for 2 examples with so many references."""
    keys = iter(jax.random.split(jax.random.key(1), 4))
    normal = lambda *shape: jax.random.normal(next(keys), shape)  # noqa: E731
    return {
        "latents": normal(2, 6, 4, 5),
        "prompt": normal(2, 7, 10),
        "references": normal(2, count, 6, 4, 5),
        "concepts": normal(2, count, 3, 10),
        "timesteps": jnp.array([30, 800]),
        "mask": jnp.ones((2, count), bool),
    }


@nnx.jit
def call(retrinet: RetriNet, arguments: dict) -> jax.Array:
    return retrinet(**arguments)


def plain(retrinet: RetriNet, arguments: dict) -> jax.Array:
    names = ("latents", "timesteps", "prompt")
    return nnx.jit(lambda unet, *a: unet(*a))(retrinet.unet, *(arguments[n] for n in names))


def difference(a: jax.Array, b: jax.Array) -> float:
    return float(jnp.abs(a - b).max())


def test_new_retrinet_is_exactly_its_unet():
    retrinet, arguments = fresh(), inputs()
    with jax.disable_jit():  # compiled, either program is rounded in its own way
        np.testing.assert_array_equal(call(retrinet, arguments), plain(retrinet, arguments))


def test_references_change_the_output_of_every_example():
    arguments = inputs()
    found = jnp.abs(call(awake(), arguments) - plain(awake(), arguments))
    assert found.max(axis=(1, 2, 3)).min() > 1e-2


def test_order_of_references_does_not_matter():
    arguments = inputs()
    order = jnp.array([2, 0, 1])
    moved = {k: arguments[k][:, order] for k in ("references", "concepts", "mask")}
    first, second = call(awake(), arguments), call(awake(), arguments | moved)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_each_reference_keeps_its_own_concept_word():
    arguments = inputs()
    swapped = arguments["concepts"][:, jnp.array([1, 0, 2])]
    changed = call(awake(), arguments | {"concepts": swapped})
    assert difference(call(awake(), arguments), changed) > 1e-4


def test_what_stands_at_padding_changes_nothing():
    arguments = inputs() | {"mask": jnp.array([[True, False, True], [True, True, False]])}
    hidden = ~arguments["mask"][:, :, None, None, None]
    other = jnp.where(hidden, 7.0, arguments["references"])
    np.testing.assert_array_equal(
        call(awake(), arguments), call(awake(), arguments | {"references": other})
    )


def test_padding_equals_fewer_references():
    arguments = inputs() | {"mask": jnp.array([[True, True, False]] * 2)}
    fewer = {k: arguments[k][:, :2] for k in ("references", "concepts", "mask")}
    found = call(awake(), arguments)
    np.testing.assert_allclose(found, call(awake(), arguments | fewer), atol=1e-6)


def test_without_visible_references_it_is_exactly_the_unet():
    retrinet, arguments = awake(), inputs() | {"mask": jnp.zeros((2, 3), bool)}
    with jax.disable_jit():
        np.testing.assert_array_equal(call(retrinet, arguments), plain(retrinet, arguments))


def test_an_example_without_references_beside_one_with_them_is_the_unet():
    arguments = inputs() | {"mask": jnp.array([[False] * 3, [True] * 3])}
    found = call(awake(), arguments)
    np.testing.assert_allclose(found[0], plain(awake(), arguments)[0], atol=1e-6)


def test_gradients_are_finite_without_visible_references():
    graphdef, state = nnx.split(awake())
    arguments = inputs() | {"mask": jnp.zeros((2, 3), bool)}
    loss = lambda params: jnp.sum(nnx.merge(graphdef, params)(**arguments) ** 2)  # noqa: E731
    grads = jax.jit(jax.grad(loss))(state)
    assert all(bool(jnp.isfinite(grad).all()) for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize("count", [1, 5])
def test_number_of_references_may_change_at_call_time(count):
    assert call(awake(), inputs(count)).shape == (2, 6, 4, 5)


@pytest.mark.parametrize("setting, depends", [("zero", False), ("target", True)])
def test_reference_timestep_says_whether_references_see_the_time(setting, depends):
    retrinet, arguments = awake(reference_timestep=setting), inputs()
    encode = nnx.jit(lambda m, r, c, t: m.encode_references(r, c, t))
    references, concepts = arguments["references"], arguments["concepts"]
    early = encode(retrinet, references, concepts, jnp.array([0, 0]))
    late = encode(retrinet, references, concepts, jnp.array([5, 900]))
    pairs = zip(jax.tree.leaves(early), jax.tree.leaves(late), strict=True)
    assert (max(difference(a, b) for a, b in pairs) > 0) == depends


def test_positions_off_makes_references_a_bag_of_places():
    """Without positions a mirrored key map retrieves the same; with them it does not."""
    for positions in (True, False):
        conjunction = awake(positions=positions).conjunctions[0]
        x, maps = jax.random.normal(jax.random.key(2), (2, 2, 4, 3, 12))
        mask = jnp.ones((2, 1), bool)

        def retrieve(maps, conjunction=conjunction, x=x, mask=mask):
            key, value = conjunction.keys_values(maps, 2)
            return conjunction(x, key=key, value=value, mask=mask)

        found, mirrored = retrieve(maps), retrieve(maps[:, :, ::-1])
        assert (difference(found, mirrored) > 1e-3) == positions


def test_retrieval_encoder_starts_as_a_copy_of_the_encoder():
    encoder, unet = (
        tiny_pipeline.params_of(fresh().retrieval_encoder),
        tiny_pipeline.params_of(fresh().unet),
    )
    assert set(unet) - set(encoder) == {"mid_block", "up_blocks", "conv_norm_out", "conv_out"}
    shared = {name: unet[name] for name in encoder}
    jax.tree.map(np.testing.assert_array_equal, encoder, shared)


def test_the_copy_is_a_copy():
    retrinet = nnx.clone(fresh())
    retrinet.unet.conv_in.bias.set_value(jnp.ones(12))
    np.testing.assert_array_equal(retrinet.retrieval_encoder.conv_in.bias.get_value(), 0)


def test_unknown_reference_timestep_is_refused():
    with pytest.raises(ValueError, match="reference_timestep='late': use 'target' or 'zero'"):
        RetriNetConfig(unet=UNET, reference_timestep="late")


def gradients(remat: bool):
    """Returns f(parameters) -> gradients of a RetriNet whose references matter."""
    config = dataclasses.replace(CONFIG, unet=dataclasses.replace(UNET, remat=remat))
    graphdef = nnx.split(nnx.eval_shape(lambda: RetriNet(config, nnx.Rngs(0))))[0]

    def loss(params):
        return jnp.mean(nnx.merge(graphdef, params)(**inputs()) ** 2)

    return jax.grad(loss), loss


def test_remat_keeps_no_map_of_attention_to_the_references():
    """[..., h*w, R*h*w] of both levels, and what the conjunctions make of the maps."""
    params = nnx.state(awake(), nnx.Param)
    sizes, kept = {}, {}
    for remat in (True, False):
        loss = gradients(remat)[1]
        residuals = jax.eval_shape(lambda p, loss=loss: jax.vjp(loss, p)[1], params)
        kept[remat] = {leaf.shape[-2:] for leaf in jax.tree.leaves(residuals)}
        sizes[remat] = sum(leaf.size for leaf in jax.tree.leaves(residuals))
    maps = {(24, 72), (6, 18)}
    assert maps <= kept[False] and not maps & kept[True]
    assert sizes[True] < sizes[False] / 3


@pytest.mark.slow
def test_remat_changes_no_gradient():
    params = nnx.state(awake(), nnx.Param)
    found, expected = (jax.jit(gradients(remat)[0])(params) for remat in (True, False))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * float(jnp.abs(b).max()) + 1e-8)
