"""Sampling: guidance, seeds and batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rbjax.diffusion import guidance, sampler
from rbjax.diffusion.guidance import Sampling
from rbjax.diffusion.schedule import Schedule
from tests.helpers import tiny_pipeline

SCHEDULE = Schedule(betas="rectified_flow", prediction_type="sample")
EMPTY = jnp.array([2, 3, 0, 0, 0, 0])
OFF, ON = Sampling(2, "euler", 1.0, 1.0), Sampling(2, "euler", 2.0, 3.0)


@functools.cache
def compiled(sampling: Sampling, reference_timestep: str = "zero"):
    pipeline = tiny_pipeline.pipeline(reference_timestep=reference_timestep)
    made = guidance.make_generate(
        nnx.split(pipeline)[0], schedule=SCHEDULE, sampling=sampling, empty_prompt=EMPTY
    )
    return functools.partial(jax.jit(made), tiny_pipeline.params_of(pipeline))


def plain(weighted_batches) -> jax.Array:
    """Samples with seeds 4 and 5; the model is called on each batch, all of it at every step."""
    pipeline = tiny_pipeline.pipeline()
    noise = jnp.stack([jax.random.normal(jax.random.key(s), (4, 4, 12)) for s in (4, 5)])

    @jax.jit
    def generate(noise):
        def denoise(x, t):
            parts = [(w, pipeline.predict(pipeline.encode(b), x, t)) for w, b in weighted_batches]
            return sum(weight * output for weight, output in parts)

        return pipeline.decode_latents(
            sampler.sample(denoise, noise, SCHEDULE, num_steps=2, method="euler")
        )

    return generate(noise)


def test_guidance_off_is_plain_conditional_sampling():
    batch, seeds = tiny_pipeline.batch(2), jnp.array([4, 5], jnp.uint32)
    np.testing.assert_allclose(compiled(OFF)(batch, seeds), plain([(1, batch)]), atol=1e-5)


@pytest.mark.parametrize("references", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("prompt", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_fixed_guidance_has_the_same_zeros(references, prompt):
    sampling = Sampling(2, "euler", references, prompt)
    fixed = sampling.fixed_guidance()
    assert [bool(w) for w in fixed.weights()] == [bool(w) for w in sampling.weights()]
    assert fixed.fixed_guidance() == fixed


def test_guidance_on_changes_the_image():
    batch, seeds = tiny_pipeline.batch(2), jnp.array([4, 5], jnp.uint32)
    found = jnp.abs(compiled(ON)(batch, seeds) - compiled(OFF)(batch, seeds))
    assert found.max() > 1e-3


@pytest.mark.parametrize(
    "references, prompt, count", [(2, 3, 3), (1.5, 1.5, 2), (1, 1, 1), (0, 4, 3)]
)
def test_guidance_weights_sum_to_one(references, prompt, count):
    sampling = Sampling(2, "euler", references, prompt)
    variants = guidance.guidance_variants(tiny_pipeline.batch(2), EMPTY, sampling)
    assert len(variants) == count
    assert sum(weight for weight, _ in variants) == pytest.approx(1)


def test_variants_drop_prompt_and_references():
    batch = tiny_pipeline.batch(2)
    nothing, references, full = (b for _, b in guidance.guidance_variants(batch, EMPTY, ON))
    np.testing.assert_array_equal(nothing.prompt, [EMPTY] * 2)
    np.testing.assert_array_equal(references.prompt, [EMPTY] * 2)
    assert not nothing.reference_mask.any()
    np.testing.assert_array_equal(references.reference_mask, batch.reference_mask)
    assert full is batch


def test_an_image_does_not_depend_on_its_batch():
    batch, seeds = tiny_pipeline.batch(3), jnp.array([4, 5, 6], jnp.uint32)
    single = jax.tree.map(lambda x: x[1:2], batch)
    found = compiled(ON)(batch, seeds)[1:2]
    np.testing.assert_allclose(found, compiled(ON)(single, seeds[1:2]), atol=1e-5)


def test_same_seed_same_bytes_and_another_seed_another_image():
    batch = tiny_pipeline.batch(2)
    same, also, other = (
        np.asarray(compiled(ON)(batch, jnp.array(s, jnp.uint32))) for s in ([4, 5], [4, 5], [4, 6])
    )
    assert same.tobytes() == also.tobytes()
    assert np.abs(same[1] - other[1]).max() > 1e-3


def test_encoding_references_once_equals_encoding_them_each_step():
    """At timestep "zero" the keys are computed before the loop; the plain model does so inside."""
    batch, seeds = tiny_pipeline.batch(2), jnp.array([4, 5], jnp.uint32)
    each = plain(guidance.guidance_variants(batch, EMPTY, ON))
    np.testing.assert_allclose(compiled(ON)(batch, seeds), each, atol=1e-5)


def test_references_may_be_encoded_at_the_targets_time():
    found = compiled(OFF, "target")(tiny_pipeline.batch(2), jnp.array([4, 5], jnp.uint32))
    assert found.shape == (2, 8, 8, 3) and bool(jnp.isfinite(found).all())


def test_every_step_calls_back():
    pipeline, batch, calls = tiny_pipeline.pipeline(), tiny_pipeline.batch(2), []
    generate = guidance.make_generate(
        nnx.split(pipeline)[0],
        schedule=SCHEDULE,
        sampling=OFF,
        empty_prompt=EMPTY,
        on_step=lambda: calls.append(1),
    )
    seeds = jnp.array([4, 5], jnp.uint32)
    found = jax.jit(generate)(tiny_pipeline.params_of(pipeline), batch, seeds)
    jax.effects_barrier()
    assert len(calls) == OFF.steps
    np.testing.assert_allclose(found, compiled(OFF)(batch, seeds), atol=1e-6)
