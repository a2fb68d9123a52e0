"""From pixels and tokens to latents and back."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from rbjax.models import params
from rbjax.models import pipeline as pipeline_lib
from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from rbjax.text import tokenizer
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


@pytest.mark.parametrize("field", ["target", "references"])
def test_a_pipeline_without_a_kl_autoencoder_reads_no_latents(field):
    pipeline, batch = tiny_pipeline.pipeline(), tiny_pipeline.batch(2)
    images = np.asarray(getattr(batch, field), np.float32)
    with pytest.raises(ValueError, match="only a KL autoencoder's latents .* uint8 images"):
        pipeline.encode(dataclasses.replace(batch, **{field: images}))


@pytest.mark.parametrize("field", ["prompt", "concepts"])
def test_states_of_another_width_are_refused(field):
    pipeline, batch = tiny_pipeline.pipeline(), tiny_pipeline.batch(2)
    states = np.zeros((*getattr(batch, field).shape, 7), np.float32)
    with pytest.raises(ValueError, match="stored text states, which have 8 in the last axis"):
        pipeline.encode(dataclasses.replace(batch, **{field: states}))


@pytest.mark.parametrize("field, channels", [("target", 8), ("references", 4)])
def test_latents_of_other_channels_are_refused(field, channels):
    pipeline, batch = tiny_pipeline.pipeline(), tiny_pipeline.batch(2)
    config = AutoencoderKLConfig(block_out_channels=(4,), norm_num_groups=2)
    pipeline.autoencoder = nnx.data(params.shapes(lambda rngs: AutoencoderKL(config, rngs)))
    moments, means = np.zeros((2, 8, 8, 8), np.float32), np.zeros((2, 2, 8, 8, 4), np.float32)
    latents = dataclasses.replace(batch, target=moments, references=means)
    assert pipeline.encode(latents).references.shape == means.shape
    images = np.zeros((*getattr(latents, field).shape[:-1], 3), np.float32)
    with pytest.raises(ValueError, match=f"latents, which have {channels} in the last axis"):
        pipeline.encode(dataclasses.replace(latents, **{field: images}))


def test_shapes_are_traced_once_for_a_configuration_and_not_shared(monkeypatch):
    made = []
    monkeypatch.setattr(
        pipeline_lib, "shapes", lambda make: made.append(make) or params.shapes(make)
    )
    config = ConfigDict({"model": tiny_pipeline.model_config(), "data": {"max_tokens": 19}})
    words = tokenizer.word_tokenizer({"tags": {}})
    one, other = (pipeline_lib.abstract_pipeline(config, words) for _ in range(2))
    assert len(made) == 1
    one.text_encoder = None
    assert other.text_encoder is not None
    config.model.retrieval.positions = not config.model.retrieval.positions
    changed = pipeline_lib.abstract_pipeline(config, words)
    assert len(made) == 2 and nnx.split(changed)[0] != nnx.split(other)[0]
