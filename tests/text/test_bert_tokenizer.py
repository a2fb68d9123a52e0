"""BERT's tokenizer against transformers', in every form in which folders hold it."""

import json

import pytest
import tokenizers
import transformers

from rbjax.text.bert_tokenizer import bert_tokenizer
from tests.helpers.blip_folder import WORDS, write

TEXTS = [
    "",
    "What is the person wearing?",
    "the Dresss, shirtless; Héllo's",
    "長い red\thair\n[DEC]red [ENC] [SEP] [PAD]",
    "zebra #blue##s a.s",
]
ENC = len(WORDS) + 1
DEC_MAP = {"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]}
TOKENS = {
    str(len(WORDS)): {"content": "[DEC]", "special": True, "normalized": False},
    str(ENC): {"content": "[ENC]", "special": True, "normalized": False, "lstrip": True},
}


def _plain(folder):
    """vocab.txt alone."""


def _config(folder):
    write(folder, "tokenizer_config.json", {"do_lower_case": True, "strip_accents": False})


def _cased(folder):
    write(
        folder,
        "tokenizer_config.json",
        {"do_lower_case": False, "tokenize_chinese_chars": False, "model_max_length": 3},
    )


def _added_tokens(folder):
    write(folder, "added_tokens.json", {"[ENC]": ENC, "[DEC]": len(WORDS)})
    write(
        folder,
        "special_tokens_map.json",
        {"bos_token": "[DEC]", "extra_special_tokens": ["[ENC]"]},
    )


def _added_tokens_decoder(folder):
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": TOKENS} | DEC_MAP)


def _named_in_a_dict(folder):
    token = {"content": "[DEC]", "lstrip": False, "normalized": False, "rstrip": False}
    write(folder, "special_tokens_map.json", {"bos_token": token | {"single_word": False}})


def _of_transformers_5(folder):
    _config(folder)
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "extra_special_tokens": ["[ENC]"]})
    tokenizer.add_tokens(["zebra"])
    (folder / "vocab.txt").unlink()
    tokenizer.save_pretrained(folder)
    assert (folder / "tokenizer.json").is_file()


def _json_that_pads_and_truncates(folder):
    _of_transformers_5(folder)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=7)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))


def _bare_json(folder):
    """Without special tokens, decoder and settings of its own."""
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").unlink()


FORMS = [
    _plain, _config, _cased, _added_tokens, _added_tokens_decoder, _named_in_a_dict,
    _of_transformers_5, _json_that_pads_and_truncates, _bare_json,
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__.strip("_"))
def test_tokens_and_texts_are_those_of_transformers(folder, form):
    form(folder)
    oracle, ours = transformers.BertTokenizer.from_pretrained(folder), bert_tokenizer(folder)
    assert ours.get_vocab() == oracle.get_vocab()
    for text in TEXTS:
        ids = oracle(text)["input_ids"]
        assert ours.encode(text).ids == ids
        assert ours.decode(ids) == oracle.decode(ids, skip_special_tokens=True)


def test_special_tokens_of_transformers_4_are_special(folder):
    """Its name for them in this file, which transformers 5 overlooks."""
    write(folder, "added_tokens.json", {"[ENC]": ENC, "[DEC]": len(WORDS)})
    write(folder, "special_tokens_map.json", DEC_MAP)
    assert bert_tokenizer(folder).decode([len(WORDS), ENC, WORDS.index("red")]) == "red"


def test_another_kind_of_tokenizer_is_used_as_it_is(tmp_path):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert bert_tokenizer(tmp_path).encode("a").ids == [0]


def test_missing_and_damaged_files_are_named(folder):
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece"}}))
    with pytest.raises(ValueError, match="no tokenizer that can be read"):
        bert_tokenizer(folder)
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer.json nor vocab.txt"):
        bert_tokenizer(folder)
