"""BERT's WordPiece tokenizer from a folder, as transformers' `BertTokenizer` reads it."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from rbjax.text.added_tokens import read_json

SPECIAL = {  # `BertTokenizer`'s defaults
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
LISTS = ("additional_special_tokens", "extra_special_tokens")  # of transformers 4, of 5


def bert_tokenizer(folder: str | pathlib.Path) -> tokenizers.Tokenizer:
    """Reads `tokenizer.json` or `vocab.txt`, with `tokenizer_config.json` and tokens that it adds.

    As transformers does, it takes the vocabulary (and the form of a pair) from the first of these
    and lower case, accents and special tokens from the second; a `tokenizer.json` of another kind
    than WordPiece is used as it is. The tokenizer neither pads nor truncates.

    Raises:
        FileNotFoundError: the folder holds no vocabulary.
        ValueError: a file is damaged.
    """
    folder = pathlib.Path(folder)
    try:
        tokenizer = _read(folder)
    except OSError:
        raise
    except Exception as error:  # what tokenizers raises has no class of its own
        raise ValueError(f"{folder} holds no tokenizer that can be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _read(folder: pathlib.Path) -> tokenizers.Tokenizer:
    path, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if not path.is_file():
        if not vocabulary.is_file():
            raise FileNotFoundError(
                f"{folder} holds neither tokenizer.json nor vocab.txt: not the folder of a model "
                "that reads text."
            )
        return _word_piece(folder, models.WordPiece.read_file(str(vocabulary)), {})
    content = read_json(path)
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    if content["model"].get("type") != "WordPiece":
        return tokenizer
    result = _word_piece(folder, content["model"]["vocab"], content)
    if tokenizer.post_processor is not None:
        result.post_processor = tokenizer.post_processor
    return result


def _word_piece(
    folder: pathlib.Path, vocabulary: Mapping[str, int], content: Mapping[str, Any]
) -> tokenizers.Tokenizer:
    """Builds the tokenizer of a vocabulary.

    Args:
        folder: with the settings.
        vocabulary: token to id.
        content: of `tokenizer.json`; empty where there is none.
    """
    settings, added = _settings(folder, content)
    special = {name: _content(settings.get(name) or token) for name, token in SPECIAL.items()}
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece(dict(vocabulary), unk_token=special["unk_token"])
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_tokens(added)
    tokenizer.add_special_tokens([*special.values(), *_other_special_tokens(settings)])
    start, end = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)],
    )
    return tokenizer


def _settings(
    folder: pathlib.Path, content: Mapping[str, Any]
) -> tuple[dict[str, Any], list[AddedToken]]:
    """Returns the tokenizer's settings, and the tokens that a file adds in the order of their ids.

    `special_tokens_map.json` and `added_tokens.json` count only in folders of an older transformers
    whose `tokenizer_config.json` has no `added_tokens_decoder`.
    """
    settings = read_json(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        tokens = {int(i): _token(token) for i, token in settings["added_tokens_decoder"].items()}
    else:
        settings |= read_json(folder / "special_tokens_map.json")
        special = {*_other_special_tokens(settings)}
        special |= {_content(settings[name]) for name in SPECIAL if settings.get(name)}
        tokens = {
            i: AddedToken(text, special=text in special, normalized=text not in special)
            for text, i in read_json(folder / "added_tokens.json").items()
        }
        tokens |= {token["id"]: _token(token) for token in content.get("added_tokens", ())}
    return settings, [tokens[i] for i in sorted(tokens)]


def _other_special_tokens(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yields the special tokens beside BERT's own, such as BLIP's [DEC] (`bos_token`) and [ENC]."""
    for name, value in settings.items():
        if name.endswith("_token") and name not in SPECIAL and isinstance(value, (str, dict)):
            yield _content(value)
        elif name in LISTS and value:
            yield from map(_content, value.values() if isinstance(value, dict) else value)


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else token["content"]


def _token(token: Mapping[str, Any]) -> AddedToken:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(token["content"], **{name: token[name] for name in flags if name in token})
