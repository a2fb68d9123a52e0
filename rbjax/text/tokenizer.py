"""Tokenizers: one token a word for a text encoder trained from scratch, and CLIP's.

A data set brings its vocabulary, from which the word tokenizer is made. A pretrained text encoder
brings its tokenizer in a folder: CLIP's byte-pair encoding, read here without transformers (BERT's:
`bert_tokenizer`).
"""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from rbjax.storage import StoredPath
from rbjax.text import added_tokens
from rbjax.text.concepts import CONCEPTS

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"  # of the word tokenizer
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = (  # special tokens, English endings, words, digits, the rest
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def word_tokenizer(vocabulary: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Builds a tokenizer with one token a word of the tags and concepts, in sorted order.

    Args:
        vocabulary: of the data set, with its tags under "tags"; capitals make no other word.
    """
    normalizer = normalizers.Lowercase()
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(",", "removed")]
    )
    tags = map(normalizer.normalize_str, vocabulary["tags"])
    words = {word for tag in tags for word, _ in splitter.pre_tokenize_str(tag)}
    words |= {"solo", *CONCEPTS}
    ids = {token: i for i, token in enumerate([PAD, UNKNOWN, START, END, *sorted(words)])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
    )
    return tokenizer


def read(path: StoredPath) -> tokenizers.Tokenizer:
    """Reads a `tokenizer.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: restore it from a copy of the model")
    with _named_errors(path):
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))


def is_of_words(tokenizer: tokenizers.Tokenizer) -> bool:
    """Returns whether a tokenizer is one of `word_tokenizer`."""
    return tokenizer.token_to_id(UNKNOWN) is not None


def unknown_words(text: str, tokenizer: tokenizers.Tokenizer) -> list[str]:
    """Returns the words of a text that a tokenizer of words does not know; of CLIP's, none."""
    unknown = tokenizer.token_to_id(UNKNOWN)
    encoding = tokenizer.encode(text)
    pairs = zip(encoding.ids, encoding.offsets, strict=True)
    return [text[start:end] for token, (start, end) in pairs if token == unknown]


def read_pretrained(folder: str | pathlib.Path, length: int) -> tokenizers.Tokenizer:
    """Reads the tokenizer of a text encoder: of words, or CLIP's; see `clip_tokenizer`.

    Args:
        folder: `tokenizer/` of a diffusers folder.
        length: at which CLIP's truncates; one of words raises an error for longer prompts.
    """
    path = pathlib.Path(folder) / "tokenizer.json"
    if not path.is_file() or not is_of_words(tokenizer := read(path)):
        return clip_tokenizer(folder, length)
    tokenizer.no_truncation()  # transformers saves the lengths of its last call
    tokenizer.no_padding()
    return tokenizer


def clip_tokenizer(folder: str | pathlib.Path, length: int) -> tokenizers.Tokenizer:
    """Reads `tokenizer.json`, or `vocab.json` and `merges.txt`; longer texts are truncated.

    Tokens that were added stand there or in other files; see `added_tokens`.

    Args:
        folder: `tokenizer/` of a diffusers folder.
        length: tokens of a prompt, start and end included.

    Raises:
        FileNotFoundError: the folder holds neither.
        ValueError: a file is damaged, or the tokenizer is not CLIP's.
    """
    folder = pathlib.Path(folder)
    with _named_errors(folder):
        padding = _padding(folder)
        tokenizer = _read_folder(folder, padding)
        added_tokens.add(tokenizer, folder)
        tokenizer.enable_padding(pad_id=_id(tokenizer, padding), pad_token=padding)
    tokenizer.enable_truncation(length)
    return tokenizer


@contextlib.contextmanager
def _named_errors(path: StoredPath) -> Iterator[None]:
    """Raises ValueError with the path and what to do, except where a file is missing."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # what tokenizers raises has no class of its own
        raise ValueError(
            f"{path} holds no tokenizer that can be read: {error}. Restore it from a copy of the "
            "model"
        ) from error


def _read_folder(folder: pathlib.Path, padding: str) -> tokenizers.Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _byte_pair_tokenizer(folder / "vocab.json", folder / "merges.txt", padding)
    raise FileNotFoundError(
        f"{folder} holds neither tokenizer.json nor vocab.json and merges.txt: not the tokenizer "
        "of a diffusers folder."
    )


def _byte_pair_tokenizer(
    vocabulary: pathlib.Path, merges: pathlib.Path, padding: str
) -> tokenizers.Tokenizer:
    """Builds CLIP's tokenizer from its two files, equal to transformers' `CLIPTokenizer`.

    As there, the padding token is never part of a word: SD 2.x reads "!" in a prompt as padding.
    """
    model = models.BPE.from_file(
        str(vocabulary),
        str(merges),
        unk_token=CLIP_END,
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
        fuse_unk=False,
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for token in (CLIP_START, CLIP_END, padding):
        _id(tokenizer, token)  # adding one that is not in the vocabulary would make a new id
        tokenizer.add_special_tokens([AddedToken(token, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=(CLIP_END, _id(tokenizer, CLIP_END)),
        cls_token=(CLIP_START, _id(tokenizer, CLIP_START)),
        trim_offsets=False,
        add_prefix_space=False,
    )
    return tokenizer


def _padding(folder: pathlib.Path) -> str:
    """Returns the padding token: SD 1.x pads with the end token, SD 2.x with "!".

    As transformers reads it: old folders may give it twice, and special_tokens_map.json then
    counts.
    """
    config = added_tokens.read_json(folder / "tokenizer_config.json")
    special = added_tokens.read_json(folder / "special_tokens_map.json")
    files = (config, special) if "added_tokens_decoder" in config else (special, config)
    token = next((file["pad_token"] for file in files if file.get("pad_token")), CLIP_END)
    return token["content"] if isinstance(token, dict) else token


def _id(tokenizer: tokenizers.Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer has no token {token!r}: not CLIP's")
    return found
