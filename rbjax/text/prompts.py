"""Prompts as token ids.

A data set brings its vocabulary, so a text encoder trained from scratch uses a tokenizer with one
token a word, made from it. A pretrained text encoder brings its own tokenizer, see
pretrained_tokenizer.py.
"""

import bisect
import warnings

import numpy as np
import tokenizers

from rbjax.text.concepts import CONCEPTS
from rbjax.text.tokenizer import PAD


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


def free_tags(tags: list[str], vocabulary: dict, carried: set[str]) -> list[str]:
    """The tags that name nothing which the references carry.

    Args:
        tags: of the target.
        vocabulary: of the data set; a tag that it lacks is kept.
        carried: kinds ("identity", "outfit") that the references show.
    """
    known = vocabulary["tags"]
    return [tag for tag in tags if known.get(tag, {}).get("kind") not in carried]


def split_tags(prompt: str) -> list[str]:
    """`"1girl, red hair"` -> `["1girl", "red hair"]`."""
    return [tag.strip() for tag in prompt.split(",") if tag.strip()]
