"""Completion and marks of the prompt."""

import pathlib

import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from rbjax.demo_page import tags
from rbjax.interop.saved_model import Model
from rbjax.text import prompts
from rbjax.text.tokenizer import word_tokenizer
from tfds_retribooru.avatars import attributes

VOCABULARY = attributes.vocabulary()


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(VOCABULARY)


def mark(prompt, concepts, tokenizer, vocabulary=VOCABULARY, spaced=False) -> list[dict[str, str]]:
    kinds = tags.kinds_of(vocabulary)
    return tags.mark(prompt, concepts, kinds=kinds, tokenizer=tokenizer, spaced=spaced)


def marks(prompt, concepts, tokenizer, **given) -> list[str]:
    return [one["mark"] for one in mark(prompt, concepts, tokenizer, **given)]


def complete(prompt, vocabulary=VOCABULARY, **limit) -> list[str]:
    return tags.complete(prompt, tags.forms_of(vocabulary), **limit)


def model_of(tokenizer, **config) -> Model:
    """A model of which nothing but its words and its data set counts."""
    return Model(ConfigDict({"data": {}} | config), tokenizer, None, {})


def test_the_vocabulary_is_that_of_the_training_s_data_set(tokenizer, tmp_path):
    model = model_of(tokenizer, data={"dataset": "avatars/tiny"}, data_dir=str(tmp_path))
    assert tags.vocabulary_of(model) == VOCABULARY  # the data set is elsewhere
    folder = pathlib.Path(tfds.builder("avatars/tiny", data_dir=tmp_path).data_path)
    folder.mkdir(parents=True)
    (folder / "vocabulary.json").write_text('{"tags": {}, "questions": {"a": "b"}}')
    assert tags.vocabulary_of(model)["questions"] == {"a": "b"}


def test_the_vocabulary_is_that_of_the_model(tokenizer):
    assert tags.vocabulary_of(model_of(tokenizer)) == VOCABULARY
    words = word_tokenizer({"tags": {"smile": {}, "night sky": {}}})
    other = tags.vocabulary_of(model_of(words))
    assert {"smile", "night", "sky"} < set(other["tags"]) and other["questions"] == {}
    assert not any(tag.startswith("[") for tag in other["tags"])


def test_the_last_tag_is_completed():
    assert complete("smile, blue b") == ["blue background"]
    assert complete("Clenched") == ["clenched teeth"]
    assert "blue background" in complete("backgr", limit=12)  # a later word


@pytest.mark.parametrize("prompt", ["", "smile,", "smile, ", "zorgle"])
def test_nothing_is_completed_to_nothing(prompt):
    assert complete(prompt) == []


def test_tags_that_stand_there_are_not_offered():
    assert "smile" not in complete("smile, s", limit=100)


def test_references_decide_what_they_carry(tokenizer):
    prompt = "smile, blue hair, red clothes"
    assert marks(prompt, [], tokenizer) == ["known"] * 3
    assert marks(prompt, ["face"], tokenizer) == ["known", "decided", "known"]
    assert marks(prompt, ["clothes"], tokenizer) == ["known", "known", "decided"]
    assert marks(prompt, ["character"], tokenizer) == ["known", "decided", "decided"]


def test_unknown_words_are_named(tokenizer):
    (found,) = mark("green zorgle", [], tokenizer)
    assert found == {
        "tag": "green zorgle",
        "mark": "unknown",
        "note": "the model does not know zorgle",
    }


OWN = {"tags": {"red_hair": {"kind": "identity"}, "hair_bow": {"kind": "outfit"}, "o_o": {}}}


def test_tags_of_own_data_are_known_with_underscores_and_with_spaces():
    spaced = {prompts.spaced(tag): entry for tag, entry in OWN["tags"].items()}
    words = word_tokenizer({"tags": spaced})  # as trainings with underscores_as_spaces make it
    for prompt in ("red_hair, hair_bow, o_o", "Red Hair, hair bow, o_o"):
        found = marks(prompt, ["face"], words, vocabulary=OWN, spaced=True)
        assert found == ["decided", "known", "known"]
    assert marks("red_hair, red hair", [], word_tokenizer(OWN)) == ["known", "unknown"]


def test_tags_of_own_data_are_completed_from_underscores_and_from_spaces():
    for begun in ("red_h", "Red h", "red_"):
        assert complete(begun, OWN) == ["red_hair"]
    assert complete("hair", OWN) == ["hair_bow", "red_hair"]
    assert complete("red hair, hair", OWN) == ["hair_bow"]


def test_random_tags_replace_expression_and_background_alone():
    found = tags.randomized("blue hair, smile, red background, zorgle", VOCABULARY, seed=1)
    kept, drawn = found.split(", ")[:2], found.split(", ")[2:]
    assert kept == ["blue hair", "zorgle"]
    names = [VOCABULARY["tags"][tag]["attribute"] for tag in drawn]
    assert sorted(names) == ["background", "eyebrows", "eyes", "mouth"]
    assert found == tags.randomized("blue hair, smile, red background, zorgle", VOCABULARY, seed=1)
    assert len({tags.randomized("", VOCABULARY, seed) for seed in range(5)}) > 1
