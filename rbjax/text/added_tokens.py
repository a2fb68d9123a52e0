"""Tokens that were added to a tokenizer: textual inversions, placeholders, special tokens.

Where they stand depends on who wrote the folder; all that are there are read:

    tokenizer.json             with the rest of the tokenizer
    added_tokens.json          {"<mine>": 49408}
    tokenizer_config.json      "added_tokens_decoder": {"49408": {"content": "<mine>", ...}}
    special_tokens_map.json,   "additional_special_tokens": ["<mine>", {"content": "<other>"}]
    tokenizer_config.json
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
LISTS = ("additional_special_tokens", "extra_special_tokens")  # until transformers 4, from 5 on


def add(tokenizer: tokenizers.Tokenizer, folder: pathlib.Path) -> None:
    """Adds the tokens of a folder to its tokenizer, which may have them already.

    Raises:
        ValueError: the tokens do not get the ids that the folder gives them.
    """
    numbered, others = _read(folder)
    for number, token in sorted(numbered.items()):
        found = tokenizer.token_to_id(token.content)
        due = tokenizer.get_vocab_size() if found is None else found
        if due != number:
            raise ValueError(
                f"the added token {token.content!r} has id {number} there, but {due} is "
                f"{'the next' if found is None else 'its own'}"
            )
        if found is None:
            _append(tokenizer, token)
    for token in others:
        if tokenizer.token_to_id(token.content) is None:
            _append(tokenizer, token)


def _append(tokenizer: tokenizers.Tokenizer, token: AddedToken) -> None:
    add = tokenizer.add_special_tokens if token.special else tokenizer.add_tokens
    add([token])


def _read(folder: pathlib.Path) -> tuple[dict[int, AddedToken], list[AddedToken]]:
    """Returns the tokens by their ids, and special ones whose ids are not given."""
    config = read_json(folder / "tokenizer_config.json")
    special = read_json(folder / "special_tokens_map.json")
    others = list(_special(special)) + list(_special(config))
    names = {token.content for token in others}
    numbered = {
        int(number): _token(content, special=content in names)
        for content, number in read_json(folder / "added_tokens.json").items()
    }
    for number, value in config.get("added_tokens_decoder", {}).items():
        numbered[int(number)] = _token(value, special=False)
    return numbered, others


def _special(settings: Mapping[str, Any]) -> Iterator[AddedToken]:
    for name in LISTS:
        values = settings.get(name) or []
        values = values.values() if isinstance(values, dict) else values
        yield from (_token(value, special=True) for value in values)


def _token(value: Any, *, special: bool) -> AddedToken:
    """Reads a text, or an object of a text and its flags."""
    if isinstance(value, str):
        return AddedToken(value, special=special, normalized=not special)
    flags = {name: bool(value[name]) for name in FLAGS if name in value}
    return AddedToken(value["content"], **{"special": special, **flags})


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a JSON file; that of a file which is not there is empty."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
