"""Models of a user's folders, against transformers and onnxruntime's input by hand."""

import builtins

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from rbjax.evaluation import embedders
from rbjax.evaluation.image_processors import ImageProcessor
from tests.helpers import similarity_folders

SHAPES = [(31, 50), (90, 17), (14, 14), (5, 60)]
PROCESSORS = {
    "CLIP": (transformers.CLIPImageProcessorPil, similarity_folders.CLIP_PROCESSOR),
    "CLIP, a number": (
        transformers.CLIPImageProcessorPil,
        {"feature_extractor_type": "CLIPFeatureExtractor", "size": 20, "crop_size": 16},
    ),
    "CLIP, defaults": (transformers.CLIPImageProcessorPil, {"do_resize": True}),
    "ViT": (transformers.ViTImageProcessorPil, similarity_folders.VIT_PROCESSOR),
    "ViT, defaults": (
        transformers.ViTImageProcessorPil,
        {"image_processor_type": "ViTImageProcessor"},
    ),
    "DINOv2": (
        transformers.BitImageProcessorPil,
        {
            "image_processor_type": "BitImageProcessor",
            **{"size": {"shortest_edge": 25}, "crop_size": {"height": 20, "width": 20}},
            **{"resample": 3, "image_mean": [0.485, 0.456, 0.406]},
        },
    ),
}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def clip(root):
    return similarity_folders.make_clip(root / "clip")


@pytest.mark.parametrize("name", PROCESSORS)
def test_images_are_those_of_transformers(name, images):
    kind, config = PROCESSORS[name]
    oracle = kind.from_dict(config)
    wanted = [np.asarray(oracle(Image.fromarray(image))["pixel_values"][0]) for image in images]
    found = ImageProcessor.from_dict(config)(images)
    np.testing.assert_allclose(found, np.moveaxis(wanted, 1, -1), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_clip_s_vectors_are_those_of_transformers(root, clip, images):
    found = embedders.load(clip=str(root / "clip"))
    processor = transformers.CLIPImageProcessorPil.from_pretrained(root / "clip")
    pixels = [processor(Image.fromarray(i), return_tensors="pt")["pixel_values"] for i in images]
    want = clip.get_image_features(torch.cat(pixels))
    want = getattr(want, "pooler_output", want).numpy()
    vectors = found.images["CLIP"](images)
    np.testing.assert_allclose(vectors, want, atol=1e-4 * np.abs(want).max())
    texts = ["red hair", "a long prompt, " * 20, "b"]
    tokenizer = transformers.CLIPTokenizer.from_pretrained(root / "clip")
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
    want = clip.get_text_features(**inputs)
    want = getattr(want, "pooler_output", want).numpy()
    np.testing.assert_allclose(found.texts(texts), want, atol=1e-4 * np.abs(want).max())


@torch.no_grad()
def test_dino_s_vectors_are_those_of_transformers(root, images):
    model = similarity_folders.make_dino(root / "dino")
    processor = transformers.ViTImageProcessorPil.from_pretrained(root / "dino")
    pixels = [processor(Image.fromarray(i), return_tensors="pt")["pixel_values"] for i in images]
    want = model(torch.cat(pixels)).last_hidden_state[:, 0].numpy()
    found = embedders.load(dino=str(root / "dino"))
    assert found.texts is None and found.faces is None
    vectors = found.images["DINO"](images)
    np.testing.assert_allclose(vectors, want, atol=1e-4 * np.abs(want).max())


def test_faces_are_embedded_by_the_network_of_the_file(root):
    weight = similarity_folders.make_face(root / "face.onnx")
    faces = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)
    found = embedders.load(face=str(root / "face.onnx")).faces(faces)
    flat = np.moveaxis(faces, -1, 1).reshape(3, -1) / 127.5 - 1
    np.testing.assert_allclose(found, flat @ weight, rtol=1e-4, atol=1e-4)


def test_an_image_is_embedded_once():
    seen = []
    embed = embedders.remembered(lambda images: seen.extend(images) or np.ones((len(images), 2)))
    images = np.random.default_rng(0).uniform(-1, 1, (3, 4, 4, 3)).astype(np.float32)
    assert embed(images[[0, 1, 0]]).shape == (3, 2) and len(seen) == 2
    assert embed(images).shape == (3, 2) and len(seen) == 3
    assert embed(images[:0]).shape[0] == 0


def test_what_is_no_such_model_is_named(root, clip, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="holds a CLIPModel, not a DINO model"):
        embedders.load(dino=str(root / "clip"))
    with pytest.raises(FileNotFoundError, match="face.onnx is not there"):
        embedders.load(face=str(tmp_path / "face.onnx"))
    (tmp_path / "face.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="no ONNX file that can be read"):
        embedders.load(face=str(tmp_path / "face.onnx"))
    original = builtins.__import__

    def missing(name, *args):
        if name == "onnxruntime":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match="pip install onnxruntime"):
        embedders.load(face=str(tmp_path / "face.onnx"))
    (root / "clip" / "preprocessor_config.json").rename(tmp_path / "kept.json")
    with pytest.raises(FileNotFoundError, match="save the image processor there too"):
        embedders.load(clip=str(root / "clip"))
