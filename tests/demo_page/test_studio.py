"""A model that is open: its images, and what is asked about them."""

import dataclasses

import jax
import numpy as np
import pytest

from rbjax.demo_page import gallery, pictures, results, tags
from rbjax.demo_page.settings import Settings
from rbjax.demo_page.studio import Studio, open_all
from rbjax.inference import generation
from rbjax.text import tokenizer
from tfds_retribooru.avatars import attributes

VOCABULARY = attributes.vocabulary()


def settings(**changes) -> Settings:
    values = {"prompt": "smile, blue background", "seed": 3, "num_images": 2, "steps": 2}
    values |= {"guidance_references": 2.0, "guidance_prompt": 3.0, "size": None}
    return Settings.read(values | changes)


@pytest.fixture(scope="module")
def references():
    portraits = gallery.portraits()
    items = [gallery.item(portraits[0], "face"), gallery.item(portraits[1], "clothes")]
    return pictures.read_references(items)


def make(studio, given, references) -> list:
    return list(studio.images(given, references, studio.wanted(given, references)))


@pytest.fixture(scope="module")
def images(studio, references):
    return make(studio, settings(), references)


def test_images_are_those_of_generate(studio, references, images):
    expected = generation.generate(
        studio.model, "smile, blue background", references, num_images=2, seed=3
    )
    found = np.stack([image.pixels for image in images])
    assert np.abs(found.astype(int) - expected).max() <= 1  # one by one, and both at once
    assert [image.seed for image in images] == [3, 4]


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "frown, wink, sad eyebrows, red background"},
        {"guidance_prompt": 1.5, "guidance_references": 4.0},
        {"seed": 77, "num_images": 3},
    ],
)
def test_other_prompts_guidance_and_seeds_compile_nothing(
    studio, references, images, changes, caplog
):
    caplog.clear()
    with jax.log_compiles():
        found = make(studio, settings(**changes), references[::-1])
    assert found and "Compiling" not in caplog.text


def test_the_judge_wants_what_references_and_prompt_say(studio, references):
    wanted = {w.attribute: w for w in studio.wanted(settings(), references)}
    assert (wanted["background"].answer, wanted["background"].source) == ("blue", "prompt")
    portraits = gallery.portraits()
    for number, concept in ((1, "face"), (2, "clothes")):
        tags = portraits[number - 1].tags[concept].split(", ")
        truth = {VOCABULARY["tags"][tag]["attribute"]: VOCABULARY["tags"][tag] for tag in tags}
        found = [w for w in wanted.values() if w.source == f"reference {number}"]
        assert found
        for one in found:
            assert truth[one.attribute]["answer"] == one.answer


def test_every_question_has_an_answer(images, studio, references):
    wanted = studio.wanted(settings(), references)
    for image in images:
        assert [answer.wanted for answer in image.answers] == wanted
        for answer in image.answers:
            assert answer.is_right == (answer.given == answer.wanted.answer)


def test_the_map_is_that_of_the_references(images):
    assert all(image.map.weights.shape == (1, 16, 16, 2, 16, 16) for image in images)


def test_no_reference_has_no_map_and_tiny_images_no_judge(studio):
    small = settings(num_images=1, size=16)
    (image,) = make(studio, small, [])
    assert image.map is None and image.answers == ()
    assert "cannot read images of 16 px" in results.Results(studio, small, []).add(image)
    assert "asks for anything that the judge reads" in studio.why_unasked(settings())


def test_models_of_other_data_have_no_judge_and_the_page_says_why(
    studio, references, images, monkeypatch
):
    words = tokenizer.word_tokenizer({"tags": {"smile": {}, "night sky": {}}})
    other = dataclasses.replace(studio.model, tokenizer=words)
    monkeypatch.setattr("rbjax.demo_page.studio.load_model", lambda checkpoint: other)
    opened = Studio.open(None, studio.vqa)
    assert opened.vqa is None and opened.wanted(settings(), references) == []
    bare = dataclasses.replace(images[0], answers=())
    assert "are not those of avatars" in results.Results(opened, settings(), references).add(bare)
    assert not tags.drawn(opened.vocabulary)


def test_the_sampler_is_that_of_the_settings_or_of_the_training(studio):
    assert studio.sampling(settings(method="dpm++2m")).method == "dpm++2m"
    assert studio.sampling(settings()).method == generation.default_sampling(studio.model).method


def test_models_of_one_name_get_numbers(studio, monkeypatch):
    monkeypatch.setattr("rbjax.demo_page.studio.load_model", lambda checkpoint: studio.model)
    names = [one.name for one in open_all([None, None, None], studio.vqa)]
    assert names == ["shipped model", "shipped model (2)", "shipped model (3)"]
