"""What trains, what does not, and how it moves."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from rbjax.diffusion.schedule import Schedule
from rbjax.models import params as params_lib
from rbjax.train import state as state_lib
from rbjax.train import step
from tests.helpers import tiny_pipeline

PARAMS = {"a": {0: {"kernel": jnp.ones((2, 3))}}, "b": {"bias": jnp.ones(3)}}
FROZEN = r"retrinet/unet/(conv_in|time_embedding|down_blocks|mid_block)"
PARTS = {"trained": (rf"(?!{FROZEN}).*",), "frozen": (FROZEN,)}


def test_split_and_merge_are_inverse():
    trained, frozen = params_lib.split_trained(PARAMS, ["a/0"], ["b"])
    assert set(trained) == {"a"} and set(frozen) == {"b"}
    merged = params_lib.merge(trained, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)


@pytest.mark.parametrize(
    "trained, frozen, line",
    [(["a"], [], "b/bias: neither"), ([".*"], ["a"], "a/0/kernel: both")],
)
def test_parameters_in_both_lists_or_none_are_named(trained, frozen, line):
    with pytest.raises(ValueError, match=line) as error:
        params_lib.split_trained(PARAMS, trained, frozen)
    assert len(str(error.value).splitlines()) == 2


def test_moments_exist_for_what_trains_alone():
    config = tiny_pipeline.train_config(trained=("a",), frozen=("b",))
    state = state_lib.init(PARAMS, config, 4)
    adam = state.opt_state[1][0]
    for tree in (adam.mu, adam.nu, state.ema):
        assert jax.tree.structure(tree) == jax.tree.structure(state.trained)
    assert jax.tree.structure(state.trained) == jax.tree.structure({"a": PARAMS["a"]})


def make_update(graphdef, config):
    return step.make_update(
        graphdef, schedule=Schedule(), config=config, total_steps=10, key=jax.random.key(0)
    )


@functools.cache
def run(steps: int = 2):
    """States before and after a few updates with a frozen encoder."""
    pipeline, config = tiny_pipeline.pipeline(), tiny_pipeline.train_config(**PARTS)
    before = state_lib.init(tiny_pipeline.params_of(pipeline), config, 10)
    graphdef = nnx.split(pipeline)[0]
    update = jax.jit(make_update(graphdef, config))
    after, metrics = before, step.TrainMetrics.empty()
    for number in range(steps):
        after, metrics = update(after, metrics, tiny_pipeline.batch(2, seed=number))
    return before, after


def test_frozen_parameters_do_not_change_by_one_bit():
    before, after = run()
    assert set(before.frozen["retrinet"]["unet"]) == {
        "conv_in",
        "time_embedding",
        "down_blocks",
        "mid_block",
    }
    jax.tree.map(np.testing.assert_array_equal, after.frozen, before.frozen)


def test_every_trained_part_changes():
    before, after = run()
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before.trained, after.trained)
    assert int(after.step) == 2
    parts = {**changed["retrinet"], "text_encoder": changed["text_encoder"]}
    assert all(any(jax.tree.leaves(part)) for part in parts.values())


def constant_gradient(config, value, steps: int = 1):
    """A state of one parameter w = 1 after updates with the gradient `value`."""
    state = state_lib.init({"w": jnp.ones(4)}, config, 10)
    tx = state_lib.optimizer(config, 10)
    for _ in range(steps):
        state = step.apply_gradients(
            tx, state, {"w": jnp.full(4, value)}, ema_decay=config.ema_decay
        )
        state = state.replace(step=state.step + 1)
    return state


def test_average_follows_its_formula():
    config = tiny_pipeline.train_config(ema_decay=0.15)
    state, tx, average = state_lib.init({"w": jnp.ones(4)}, config, 10), None, 1.0
    tx = state_lib.optimizer(config, 10)
    for number in range(3):
        state = step.apply_gradients(tx, state, {"w": jnp.ones(4)}, ema_decay=config.ema_decay)
        state = state.replace(step=state.step + 1)
        decay = min(0.15, (1 + number) / (10 + number))  # 0.1, 0.15, 0.15
        average = decay * average + (1 - decay) * float(state.trained["w"][0])
    np.testing.assert_allclose(state.ema["w"], average, rtol=1e-6)


@pytest.mark.parametrize("clip, expected", [(1.0, 0.5), (0.0, 100.0)])
def test_clipping_has_two_positions(clip, expected):
    state = constant_gradient(tiny_pipeline.train_config(clip_norm=clip), 100.0)
    np.testing.assert_allclose(state.opt_state[1][0].mu["w"], 0.1 * expected, rtol=1e-5)


def test_gradients_below_the_limit_are_not_clipped():
    state = constant_gradient(tiny_pipeline.train_config(clip_norm=1.0), 0.1)
    np.testing.assert_allclose(state.opt_state[1][0].mu["w"], 0.01, rtol=1e-5)


class Exploding(nnx.Module):
    """Predicts NaN where the batch says so."""

    def __init__(self):
        self.w = nnx.Param(jnp.ones(()))

    def encode(self, batch, key):
        return types.SimpleNamespace(latents=batch.target.astype(jnp.float32), index=batch.index)

    def predict(self, batch, noisy, timesteps):
        return noisy * self.w * jnp.where(batch.index[0] == 0, jnp.nan, 1.0)


def test_updates_that_are_not_finite_are_not_applied():
    config = tiny_pipeline.train_config()
    graphdef, params = nnx.split(Exploding())
    update = make_update(graphdef, config)
    before = state_lib.init(nnx.to_pure_dict(params), config, 10)
    batch = tiny_pipeline.batch(2)
    bad, _ = update(before, step.TrainMetrics.empty(), batch)
    unchanged = step.count_step(bad, before.step)
    jax.tree.map(np.testing.assert_array_equal, unchanged, before)
    assert int(bad.step) == 1
    batch = dataclasses.replace(batch, index=batch.index + 1)
    good, metrics = update(bad, step.TrainMetrics.empty(), batch)
    assert int(good.opt_state[1][0].count) == 1
    moved = abs(good.trained["w"] - before.trained["w"])  # Adam's first step is the rate
    np.testing.assert_allclose(moved, metrics.compute()["learning_rate"], rtol=1e-3)
    assert moved > 0


def test_the_log_averages_what_is_finite():
    config = tiny_pipeline.train_config()
    graphdef, params = nnx.split(Exploding())
    update, batch = make_update(graphdef, config), tiny_pipeline.batch(2)
    state = state_lib.init(nnx.to_pure_dict(params), config, 10)
    state, bad = update(state, step.TrainMetrics.empty(), batch)
    assert np.isnan([bad.compute()["loss"], bad.compute()["grad_norm"]]).all()
    good = dataclasses.replace(batch, index=batch.index + 1)
    _, alone = update(state, step.TrainMetrics.empty(), good)
    _, both = update(state, bad, good)
    for name in ("loss", "grad_norm"):
        assert both.compute()[name] == alone.compute()[name]
    assert both.compute()["bad_updates"] == 1


def test_learning_rate_is_warmup_then_cosine():
    config = tiny_pipeline.train_config(learning_rate=0.3, warmup_steps=4, final_rate=0.1)
    rate = state_lib.learning_rate(config, 20)
    np.testing.assert_allclose([rate(i) for i in (0, 2, 4, 20)], [0, 0.15, 0.3, 0.03], atol=1e-7)
    cosine = optax.cosine_decay_schedule(0.3, 16, alpha=0.1)
    np.testing.assert_allclose(rate(9), cosine(5), rtol=1e-6)


def test_with_decay_steps_the_rate_is_constant_until_they_begin():
    """0.3 from step 4 to 12, then a line to 0.03 at step 20; a longer plan is the same until 12."""
    config = tiny_pipeline.train_config(
        learning_rate=0.3, warmup_steps=4, final_rate=0.1, decay_steps=8
    )
    rate, longer = state_lib.learning_rate(config, 20), state_lib.learning_rate(config, 30)
    expected = [0, 0.15, 0.3, 0.3, 0.165, 0.03]
    np.testing.assert_allclose([rate(i) for i in (0, 2, 4, 12, 16, 20)], expected, atol=1e-7)
    assert [rate(i) for i in range(13)] == [longer(i) for i in range(13)]
    short = state_lib.learning_rate(config, 6)  # warm-up 3, and no room for 8
    np.testing.assert_allclose([short(i) for i in (0, 3, 6)], [0, 0.3, 0.03], atol=1e-7)


def test_warmup_is_at_most_half_of_the_run():
    rate = state_lib.learning_rate(
        tiny_pipeline.train_config(learning_rate=0.3, warmup_steps=100), 6
    )
    np.testing.assert_allclose(rate(3), 0.3, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_accumulated_gradients_are_the_mean_over_the_parts(count):
    batch = {"x": jnp.arange(12.0).reshape(6, 2), "y": jnp.arange(6) ** 2}
    key = jax.random.key(3)

    def grad_of(part, part_key):
        noise = jax.random.normal(part_key, (2,))
        loss = lambda w: jnp.sum((part["x"] @ (w + noise) - part["y"]) ** 3)  # noqa: E731
        return jax.value_and_grad(loss)(jnp.ones(2))

    keys = [key] if count == 1 else [jax.random.fold_in(key, i) for i in range(count)]
    parts = [{name: x[i::count] for name, x in batch.items()} for i in range(count)]
    each = [grad_of(part, k) for part, k in zip(parts, keys, strict=True)]
    expected = jax.tree.map(lambda *leaves: sum(leaves) / count, *each)
    found = jax.jit(lambda: step.accumulate(grad_of, batch, key, count=count))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
