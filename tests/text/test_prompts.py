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
