"""Prompts as ids."""

import numpy as np
import pytest
import tokenizers
from tokenizers import models

from rbjax.text import prompts
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.text.concepts import CONCEPTS

VOCABULARY = {"tags": {"red hair": {}, "red background": {}, "wink": {}, "bob cut": {}}}


@pytest.fixture
def tokenizer():
    return tokenizer_lib.word_tokenizer(VOCABULARY)


def words(tokenizer, text):
    return tokenizer.encode(text).tokens


def test_one_token_a_word(tokenizer):
    expected = ["[CLS]", "solo", "red", "hair", "bob", "cut", "wink", "[SEP]"]
    assert words(tokenizer, "solo, red hair, bob cut,wink") == expected
    assert words(tokenizer, "Solo,  RED hair , bob cut wink") == expected


def test_every_word_of_tags_and_concepts_is_known(tokenizer):
    text = " ".join([*VOCABULARY["tags"], *CONCEPTS])
    assert tokenizer_lib.UNKNOWN not in words(tokenizer, text)
    assert tokenizer.get_vocab_size() == 4 + len({*text.split(), "solo"})
    assert words(tokenizer, "xylophone") == ["[CLS]", "[UNK]", "[SEP]"]


def test_order_of_the_vocabulary_does_not_matter(tokenizer):
    turned = {"tags": dict(reversed(VOCABULARY["tags"].items()))}
    assert tokenizer_lib.word_tokenizer(turned).get_vocab() == tokenizer.get_vocab()


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
