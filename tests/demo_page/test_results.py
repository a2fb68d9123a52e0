"""The HTML of images."""

import numpy as np
import pytest

from rbjax.demo_page import pictures
from rbjax.demo_page.results import Results
from rbjax.demo_page.settings import Settings
from rbjax.demo_page.studio import Image, Studio
from rbjax.inference.reference import Reference
from rbjax.inference.retrieval_map import RetrievalMap
from rbjax.interop.saved_model import Model
from tests.helpers import tiny_saved_model

SIDE = 8


@pytest.fixture
def studio() -> Studio:
    """A model of which nothing but its sizes and its settings of sampling counts."""
    model = Model(tiny_saved_model.config(), None, None, {})
    return Studio("a", model, {"tags": {}, "questions": {}}, None)


def settings(prompt: str = "smile") -> Settings:
    return Settings(prompt, 5, 3, 2, guidance_references=1.0, guidance_prompt=1.0)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def image(seed: int) -> Image:
    return Image(picture(seed), seed, (), RetrievalMap(np.ones((1, 2, 2, 2, 2, 2)) / 8))


def test_each_picture_is_encoded_once_and_sent_once_for_its_image(studio, monkeypatch):
    encoded, encode = [], pictures.data_url
    monkeypatch.setattr(
        pictures, "data_url", lambda *given: encoded.append(encode(*given)) or encoded[-1]
    )
    references = [Reference("face", picture(1)), Reference("clothes", picture(2))]
    results = Results(studio, settings(), references)
    for number, seed in enumerate((5, 6, 7), 1):
        html = results.add(image(seed))
        assert len(encoded) == len(references) + number
        assert html.count("<article") == number
    assert [html.count(url) for url in encoded] == [3, 3, 1, 1, 1]
    for url, seed in zip(encoded[2:], (5, 6, 7), strict=True):
        assert (pictures.decode(url, "it") == picture(seed)).all()


def test_texts_of_users_are_escaped(studio):
    html = Results(studio, settings('"><script>'), []).add(image(5))
    assert "<script>" not in html and "&lt;script&gt;" in html
