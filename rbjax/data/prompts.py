"""Prompts as token ids.

A data set brings its vocabulary, so a text encoder trained from scratch uses a tokenizer with one
token a word, made from it. A pretrained text encoder brings its own tokenizer, see
pretrained_tokenizer.py.
"""

import bisect
import warnings

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from rbjax.data.references import CONCEPTS

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


def word_tokenizer(vocabulary: dict) -> tokenizers.Tokenizer:
    """One token a word of the data set's tags and of the concept words, in sorted order."""
    words = {word for tag in vocabulary["tags"] for word in tag.split()} | {"solo", *CONCEPTS}
    ids = {token: i for i, token in enumerate([PAD, UNKNOWN, START, END, *sorted(words)])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(",", "removed")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
    )
    return tokenizer


def encode(tokenizer: tokenizers.Tokenizer, texts: list[str], length: int) -> np.ndarray:
    """Texts -> int32 [N, length], padded with the tokenizer's padding, else its last token (CLIP).

    A tokenizer that truncates (a pretrained one) cuts a text that does not fit, with a warning
    that says what was cut.

    Raises:
      ValueError: a text does not fit; it names the text and its length.
    """
    rows = np.full((len(texts), length), _padding(tokenizer), np.int32)
    for row, text in zip(rows, texts, strict=True):
        encoded = tokenizer.encode(text)
        ids = encoded.ids
        if encoded.overflowing:
            _warn_of_cut(text, encoded)
        if len(ids) > length:
            raise ValueError(
                f"the prompt {text!r} has {len(ids)} tokens, more than data.max_tokens={length}"
            )
        row[: len(ids)] = ids
    return rows


def concept_length(tokenizer: tokenizers.Tokenizer) -> int:
    """Tokens of the longest concept word; 3 (start, word, end) where each is one token."""
    return max(len(tokenizer.encode(word).ids) for word in CONCEPTS)


def _warn_of_cut(text: str, encoded: tokenizers.Encoding) -> None:
    """Warns once for each text (Python shows an equal warning only once)."""
    rest = encoded.overflowing[0]
    first = rest.special_tokens_mask.index(0)
    cut = text[rest.offsets[first][0] :]
    warnings.warn(
        f"The prompt is longer than {len(encoded.ids)} tokens; what follows is cut: {cut!r} "
        f"(of {text!r}).",
        stacklevel=3,
    )


def fitting(tokenizer: tokenizers.Tokenizer, tags: list[str], length: int) -> list[str]:
    """The first tags, as many as make a prompt of at most `length` tokens."""

    def is_too_long(count: int) -> bool:
        encoded = tokenizer.encode(", ".join(tags[:count]))
        return len(encoded.ids) > length or bool(encoded.overflowing)

    if not is_too_long(len(tags)):
        return tags
    return tags[: bisect.bisect_left(range(len(tags)), True, key=is_too_long) - 1]


def _padding(tokenizer: tokenizers.Tokenizer) -> int:
    own = tokenizer.padding["pad_id"] if tokenizer.padding else tokenizer.token_to_id(PAD)
    return tokenizer.encode("").ids[-1] if own is None else own
