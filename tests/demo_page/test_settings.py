"""Settings that the page sends, and that a picture keeps."""

import dataclasses
import json

import numpy as np
import pytest

from rbjax.demo_page import pictures, settings
from rbjax.demo_page.settings import Settings

VALUES = {
    "prompt": "smile",
    "seed": 7,
    "num_images": 2,
    "steps": 4,
    "guidance_references": 1.5,
    "guidance_prompt": 2,
    "size": 48,
}


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)


def with_metadata(content) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    return pictures.data_url(picture(), {settings.KEY: text})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"prompt": " , "}, "The prompt is empty"),
        ({"prompt": None}, "The prompt is empty"),
        ({"seed": -1}, "The seed is -1"),
        ({"seed": 1.5}, "a whole number"),
        ({"seed": 10**400}, "The seed is 1000"),
        ({"num_images": 0}, "number of images is 0"),
        ({"num_images": 1000}, "from 1 to 16"),
        ({"steps": None}, "number of steps is None"),
        ({"steps": 10**9}, "from 1 to 100"),
        ({"guidance_prompt": float("inf")}, "guidance of the prompt is inf"),
        ({"guidance_references": "x"}, "must be a number from 0 to 20"),
        ({"size": 10**6}, "The size is 1000000"),
        ({"method": "magic"}, "The sampler is 'magic'; it must be one of ddim"),
    ],
)
def test_values_that_cannot_be_used_are_told(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings.read(VALUES | changes)


def test_a_seed_is_drawn_where_none_is_given():
    assert (
        Settings.read(VALUES | {"seed": None}).seed != Settings.read(VALUES | {"seed": None}).seed
    )


def test_a_picture_restores_its_settings_and_what_the_model_saw():
    crops = [("face", picture(1)), ("clothes", picture(2))]
    made = Settings.read(VALUES | {"method": "ddim"})
    urls = [(concept, pictures.data_url(crop)) for concept, crop in crops]
    url = settings.png_url(picture(), made, references=urls, model="mine")
    assert (pictures.decode(url, "it") == picture()).all()
    values, items, note = settings.restore(url)
    expected = dataclasses.asdict(made) | {"size": 8}
    assert values == {name: expected[name] for name in settings.FIELDS}
    references = pictures.read_references(items)
    assert [reference.concept for reference in references] == ["face", "clothes"]
    for reference, (_, crop) in zip(references, crops, strict=True):
        assert (reference.crop(8, "crop") == crop).all()
        assert (reference.crop(8, "in_place") == crop).all()
    assert note == "Restored from mine, seed 7."


def test_older_pictures_name_no_sampler():
    values, _, _ = settings.restore(with_metadata(VALUES))
    assert values["method"] is None


def test_what_is_restored_is_of_the_right_type():
    url = with_metadata(VALUES | {"prompt": {"a": 1}, "steps": "4", "seed": 3.0})
    values, _, _ = settings.restore(url)
    assert (values["prompt"], values["steps"], values["seed"]) == ("", 4, 3)


@pytest.mark.parametrize(
    "given, taken, message",
    [
        ({"steps": 150}, {"steps": 100}, "number of steps is 150; this page takes 1 to 100, so"),
        ({"guidance_prompt": 25.5}, {"guidance_prompt": 20}, "prompt is 25.5; this page takes 0"),
        ({"guidance_references": -1}, {"guidance_references": 0}, "so 0 is used."),
        ({"size": [384, 256]}, {"size": None}, "The picture is not square: the model's own"),
    ],
)
def test_what_the_page_does_not_take_of_a_picture_is_replaced_and_told(given, taken, message):
    values, _, note = settings.restore(with_metadata(VALUES | given))
    expected = VALUES | {"method": None} | taken
    assert values == {name: expected[name] for name in settings.FIELDS}
    assert note.startswith("Restored from a model, seed 7. ") and message in note


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.png", "file:///x", "http://127.0.0.1/x"])
def test_paths_in_metadata_are_not_opened(path, monkeypatch):
    url = with_metadata(VALUES | {"references": [["face", path], "x", ["face"]]})
    opened = []
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a))
    _, items, note = settings.restore(url)
    assert items == [] and not opened
    assert "3 reference(s) are only named in it" in note


@pytest.mark.parametrize(
    "url, message",
    [
        (pictures.data_url(picture()), "holds no settings"),
        (with_metadata("{"), "are damaged"),
        (with_metadata([1]), "are damaged"),
        (with_metadata({"prompt": "a"}), "lack seed, steps"),
        (with_metadata(VALUES | {"steps": "many"}), "number of steps"),
        (with_metadata(VALUES | {"size": 10**6}), "The size is"),
        (with_metadata(VALUES | {"method": ["ddim"]}), "The sampler is"),
        ("data:text/plain;base64,aGVsbG8=", "is no PNG"),
        ("/etc/passwd", "no picture that was added"),
        (None, "no picture that was added"),
    ],
)
def test_pictures_without_settings_are_told(url, message):
    with pytest.raises(ValueError, match=message):
        settings.restore(url)
