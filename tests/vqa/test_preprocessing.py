"""Images as BLIP reads them, against transformers; those of our own model."""

import numpy as np
import pytest
import transformers
from PIL import Image

from rbjax.models.pixels import to_float
from rbjax.vqa import preprocessing
from rbjax.vqa.preprocessing import BlipImageProcessor, SquareResize
from tests.helpers.blip_folder import write

SETTINGS = {
    "defaults": {"size": {"height": 48, "width": 48}},
    "a number": {"size": 40},
    "not square": {"size": {"height": 30, "width": 50}, "resample": 2},
    "Lanczos": {"size": {"height": 64, "width": 64}, "resample": 1},
    "nearest": {"size": {"height": 33, "width": 33}, "resample": 0},
    "own numbers": {
        "size": {"height": 24, "width": 24},
        "rescale_factor": 1 / 127.5,
        "image_mean": [1, 0.9, 1.1],
        "image_std": [0.5, 0.25, 2],
    },
    "one number for all channels": {"size": 16, "image_mean": 0.5, "image_std": 0.5},
    "not rescaled": {"size": 16, "do_rescale": False},
    "not normalised": {"size": 16, "do_normalize": False},
    "nulls": {"size": 16, "resample": None, "do_center_crop": None, "crop_size": None},
}
SIZES = [(31, 50), (384, 17), (1, 1), (48, 48), (200, 333)]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


@pytest.mark.parametrize("name", SETTINGS)
def test_images_are_those_of_transformers(name, images):
    config = SETTINGS[name]
    known = {key: value for key, value in config.items() if value is not None}
    oracle = transformers.BlipImageProcessorPil.from_dict(known)
    ours = BlipImageProcessor.from_dict(config)
    wanted = [np.asarray(oracle(Image.fromarray(image))["pixel_values"][0]) for image in images]
    pixels = ours(images)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, np.moveaxis(wanted, 1, -1), rtol=1e-6, atol=1e-6)


def test_images_that_are_not_resized(images):
    ours = BlipImageProcessor.from_dict({"do_resize": False})
    oracle = transformers.BlipImageProcessorPil(do_resize=False)
    wanted = np.moveaxis(oracle(Image.fromarray(images[0]))["pixel_values"][0], 0, -1)
    np.testing.assert_allclose(ours(images[:1])[0], wanted, atol=1e-6)


def test_generated_images_are_rounded_to_bytes(images):
    processor = BlipImageProcessor((20, 20))
    noise = np.random.default_rng(1).uniform(-0.4, 0.4, images[0].shape)
    generated = to_float(images[0]) + noise.astype(np.float32) / 127.5
    assert (processor([generated]) == processor(images[:1])).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": {"shortest_edge": 20}}, "a height and a width"),
        ({"size": 20, "do_center_crop": True}, "do_center_crop is not supported"),
        ({"size": 20, "image_mean": [0.5, 0.5]}, "each of 3 channels"),
        ({"size": 20, "resample": 9}, "9 is not a valid Resampling"),
    ],
)
def test_what_no_blip_reads_is_refused_by_name(tmp_path, config, message):
    write(tmp_path, "preprocessor_config.json", config)
    with pytest.raises(ValueError, match=rf"preprocessor_config.json: .*{message}"):
        preprocessing.find(tmp_path)


def test_settings_are_found_as_transformers_finds_them(tmp_path):
    assert preprocessing.find(tmp_path) is None
    write(tmp_path, "processor_config.json", {"processor_class": "BlipProcessor"})
    assert preprocessing.find(tmp_path) is None
    write(tmp_path, "preprocessor_config.json", {"size": 20})
    assert preprocessing.find(tmp_path) == BlipImageProcessor((20, 20))
    write(tmp_path, "processor_config.json", {"image_processor": {"size": 30}})
    assert preprocessing.find(tmp_path) == BlipImageProcessor((30, 30))


def test_our_model_reads_floats_and_bytes(images):
    squares = [
        np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.BOX))
        for image in images
    ]
    pixels = SquareResize(16)(images)
    assert (pixels == SquareResize(16)([to_float(square) for square in squares])).all()
    assert pixels.shape == (len(images), 16, 16, 3)
