"""Prompts as tags and as ids."""

import numpy as np
import pytest
import tokenizers
from tokenizers import models

from rbjax.text import prompts
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.text.concepts import CONCEPTS

VOCABULARY = {"tags": {"red hair": {}, "red background": {}, "wink": {}, "bob cut": {}}}

KINDS = {
    "tags": {"afro": {"kind": "identity"}, "robe": {"kind": "outfit"}, "wink": {"kind": "free"}}
}
TAGS = ["solo", "afro", "robe", "wink"]


@pytest.fixture
def tokenizer():
    return tokenizer_lib.word_tokenizer(VOCABULARY)


@pytest.mark.parametrize("prompt", ["1girl, red hair", " 1girl ,,red hair,"])
def test_split_tags(prompt):
    assert prompts.split_tags(prompt) == ["1girl", "red hair"]


@pytest.mark.parametrize(
    "carried, free",
    [
        (set(), TAGS),
        ({"identity"}, ["solo", "robe", "wink"]),
        ({"outfit"}, ["solo", "afro", "wink"]),
        ({"identity", "outfit"}, ["solo", "wink"]),
    ],
)
def test_free_tags_name_nothing_that_is_carried(carried, free):
    assert prompts.free_tags(TAGS, KINDS, carried) == free


LETTERS = list("abcdefgh")


def vary(seed, keep=0, shuffle=False, drop=0.0):
    rng = np.random.default_rng(seed)
    return prompts.vary(LETTERS, rng, keep=keep, shuffle=shuffle, drop=drop)


def test_shuffled_tags_are_the_same_in_all_orders_behind_those_that_are_kept():
    drawn = [vary(seed, keep=2, shuffle=True) for seed in range(300)]
    assert all(tags[:2] == ["a", "b"] and sorted(tags) == LETTERS for tags in drawn)
    places = np.array([[tags.index(tag) for tag in LETTERS[2:]] for tags in drawn])
    np.testing.assert_allclose(places.mean(axis=0), 4.5, atol=0.4)


def test_tags_are_dropped_one_by_one_at_the_rate_but_for_those_that_are_kept():
    drawn = [vary(seed, keep=2, drop=0.3) for seed in range(500)]
    rates = [np.mean([tag not in tags for tags in drawn]) for tag in LETTERS]
    np.testing.assert_allclose(rates, [0, 0] + [0.3] * 6, atol=0.08)
    assert all(tags == sorted(tags) for tags in drawn)
    assert len({tuple(tags) for tags in drawn}) > 30


def test_without_shuffle_and_drop_nothing_is_drawn():
    rng = np.random.default_rng(0)
    assert prompts.vary(LETTERS, rng, keep=0, shuffle=False, drop=0.0) == LETTERS
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize(
    "tag, text",
    [
        ("red_hair", "red hair"),
        ("sendai_(kantai_collection)", "sendai (kantai collection)"),
        ("v_over_eye", "v over eye"),
        ("赤い_髪", "赤い 髪"),
        *((face, face) for face in (">_<", "o_o", "(o)_(o)", "^_^", "0_0", "|_|", "x_x", "+_+")),
    ],
)
def test_underscores_are_spaces_but_in_emoticons(tag, text):
    assert prompts.spaced(tag) == text


@pytest.mark.parametrize("concept", CONCEPTS)
def test_a_concept_fills_three_tokens(tokenizer, concept):
    assert prompts.encode(tokenizer, [concept], 3)[0, 1] == tokenizer.token_to_id(concept)


def test_rows_are_padded(tokenizer):
    ids = prompts.encode(tokenizer, ["wink", ""], 5)
    assert ids.dtype == np.int32 and ids.shape == (2, 5)
    start, end = (tokenizer.token_to_id(t) for t in (tokenizer_lib.START, tokenizer_lib.END))
    assert ids[0].tolist() == [start, tokenizer.token_to_id("wink"), end, 0, 0]
    assert ids[1].tolist() == [start, end, 0, 0, 0]
    assert tokenizer.token_to_id(tokenizer_lib.PAD) == 0


def test_a_prompt_that_fits_exactly(tokenizer):
    assert (prompts.encode(tokenizer, ["red hair"], 4) != 0).all()


def test_a_prompt_that_does_not_fit_is_named(tokenizer):
    with pytest.raises(ValueError, match=r"'red hair' has 4 tokens, more than data.max_tokens=3"):
        prompts.encode(tokenizer, ["wink", "red hair"], 3)


def test_a_tokenizer_without_pad_token_pads_as_it_says_or_with_its_end():
    ids = {"<start>": 0, "<end>": 1, "wink": 2, "!": 3, "<unk>": 4}
    foreign = tokenizers.Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    foreign.post_processor = tokenizers.processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    assert prompts.encode(foreign, ["wink"], 5)[0].tolist() == [0, 2, 1, 1, 1]
    foreign.enable_padding(pad_id=3, pad_token="!")
    assert prompts.encode(foreign, ["wink", ""], 4).tolist() == [[0, 2, 1, 3], [0, 1, 3, 3]]
