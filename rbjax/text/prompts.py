"""Prompts: from tags to the tags that a prompt may name, and to token ids."""

import bisect
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from rbjax.text.concepts import CONCEPTS
from rbjax.text.tokenizer import PAD

_LETTERS = re.compile(r"[^\W_]{2}")  # two in a row: not an emoticon


def split_tags(prompt: str) -> list[str]:
    """Splits a recorded prompt: `"1girl, red hair"` -> `["1girl", "red hair"]`."""
    return [tag.strip() for tag in prompt.split(",") if tag.strip()]


def free_tags(
    tags: Sequence[str], vocabulary: Mapping[str, Any], carried: Collection[str]
) -> list[str]:
    """Returns the tags that name nothing which the references carry.

    Args:
        tags: of an image.
        vocabulary: of the data set; a tag that it lacks is kept.
        carried: kinds of tags that the references carry, see `concepts.carried_kinds`.
    """
    known = vocabulary["tags"]
    return [tag for tag in tags if known.get(tag, {}).get("kind") not in carried]


def vary(
    tags: Sequence[str], rng: np.random.Generator, *, keep: int, shuffle: bool, drop: float
) -> list[str]:
    """Returns tags as training varies them, as kohya's scripts do; what cannot vary is not drawn.

    Args:
        tags: of a prompt.
        rng: the only source of randomness.
        keep: the first so many stay where they are (kohya: keep_tokens).
        shuffle: the order of the others is drawn (shuffle_caption).
        drop: rate at which each of the others is left out (caption_tag_dropout_rate).
    """
    first, rest = list(tags[:keep]), list(tags[keep:])
    if shuffle:
        rest = [rest[i] for i in rng.permutation(len(rest))]
    if drop:
        kept = rng.random(len(rest)) >= drop
        rest = [tag for tag, is_kept in zip(rest, kept, strict=True) if is_kept]
    return first + rest


def spaced(tag: str) -> str:
    """Returns a tag with spaces for underscores; an emoticon (`o_o`, `>_<`) keeps them."""
    return tag.replace("_", " ") if _LETTERS.search(tag) else tag


def spelled(prompt: str, *, underscores_as_spaces: bool) -> str:
    """Returns a prompt of comma-joined tags as those of training are spelled."""
    return ",".join(map(spaced, prompt.split(","))) if underscores_as_spaces else prompt


def fitting(tokenizer: tokenizers.Tokenizer, tags: list[str], length: int) -> list[str]:
    """Returns the first tags, as many as make a prompt of at most `length` tokens."""

    def is_too_long(count: int) -> bool:
        encoded = tokenizer.encode(", ".join(tags[:count]))
        return len(encoded.ids) > length or bool(encoded.overflowing)

    if not is_too_long(len(tags)):
        return tags
    return tags[: bisect.bisect_left(range(len(tags)), True, key=is_too_long) - 1]


def are_too_long(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], length: int) -> list[bool]:
    """Returns of each text whether it has more than `length` tokens."""
    encodings = tokenizer.encode_batch(list(texts))
    return [len(encoded.ids) > length or bool(encoded.overflowing) for encoded in encodings]


def encode(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], length: int) -> np.ndarray:
    """Encodes texts as token ids, int32 [N, length].

    They are padded with the tokenizer's padding, else with its last token (CLIP). A tokenizer that
    truncates (CLIP's) cuts a text that does not fit, with a warning that quotes what is cut.

    Raises:
        ValueError: a text does not fit; the message has the text and its length.
    """
    rows = np.full((len(texts), length), _padding(tokenizer), np.int32)
    for row, text in zip(rows, texts, strict=True):
        encoded = tokenizer.encode(text.encode("utf-8", "replace").decode())  # no half characters
        ids = encoded.ids
        if encoded.overflowing:
            _warn_of_cut(text, encoded)
        if len(ids) > length:
            raise ValueError(
                f"the prompt {text!r} has {len(ids)} tokens, more than data.max_tokens={length}: "
                "shorten it, or train with a larger config.data.max_tokens"
            )
        row[: len(ids)] = ids
    return rows


def concept_length(tokenizer: tokenizers.Tokenizer) -> int:
    """Returns the tokens of the longest concept word: 3 (start, word, end) if each is one token."""
    return max(len(tokenizer.encode(word).ids) for word in CONCEPTS)


def _padding(tokenizer: tokenizers.Tokenizer) -> int:
    own = tokenizer.padding["pad_id"] if tokenizer.padding else tokenizer.token_to_id(PAD)
    return tokenizer.encode("").ids[-1] if own is None else own


def _warn_of_cut(text: str, encoded: tokenizers.Encoding) -> None:
    """Warns once for each text (Python reports an equal warning only once)."""
    rest = encoded.overflowing[0]
    first = rest.special_tokens_mask.index(0)
    cut = text[rest.offsets[first][0] :]
    warnings.warn(
        f"The prompt is longer than {len(encoded.ids)} tokens; what follows is cut: {cut!r} "
        f"(of {text!r}).",
        stacklevel=3,
    )
