"""From pixels and tokens to latents and back."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from tests.helpers import tiny_pipeline


def test_images_survive_encoding_and_decoding():
    pipeline, images = tiny_pipeline.pipeline(), tiny_pipeline.batch(2).target
    decoded = pipeline.decode_latents(pipeline.encode_images(images))
    np.testing.assert_allclose((decoded + 1) * 127.5, images, atol=1e-4)


def test_decoded_images_stay_in_range():
    pipeline = tiny_pipeline.pipeline()
    white = pipeline.encode_images(jnp.full((1, 8, 8, 3), 255, jnp.uint8))
    np.testing.assert_array_equal(pipeline.decode_latents(3 * white), 1.0)


def test_leading_axes_of_images_and_ids_are_kept():
    pipeline, batch = tiny_pipeline.pipeline(), tiny_pipeline.batch(2, references=3)
    assert pipeline.encode_images(batch.references).shape == (2, 3, 4, 4, 12)
    assert pipeline.encode_text(batch.concepts).shape == (2, 3, 3, 8)


def test_references_are_encoded_one_by_one():
    pipeline, batch = tiny_pipeline.pipeline(), tiny_pipeline.batch(2, references=3)
    together = pipeline.encode_images(batch.references)
    np.testing.assert_array_equal(together[1, 2], pipeline.encode_images(batch.references[1])[2])


def test_parameter_names_start_with_the_module():
    assert set(tiny_pipeline.params_of(tiny_pipeline.pipeline())) == {"retrinet", "text_encoder"}


def test_fields_that_are_stored_are_read_and_the_others_encoded():
    pipeline, batch = tiny_pipeline.pipeline(), tiny_pipeline.batch(2)
    live = pipeline.encode(batch)
    states = np.asarray(live.concepts, np.float16)
    read = pipeline.encode(dataclasses.replace(batch, concepts=states))
    np.testing.assert_array_equal(read.concepts, states.astype(np.float32))
    np.testing.assert_array_equal(read.prompt, live.prompt)
    np.testing.assert_array_equal(live.latents, pipeline.encode_images(batch.target))
    np.testing.assert_array_equal(live.references, pipeline.encode_images(batch.references))
