"""The word tokenizer; CLIP's tokenizer against transformers, on a small vocabulary."""

import json
import warnings

import pytest
import transformers
from tokenizers.pre_tokenizers import ByteLevel

from rbjax.text import prompts
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.text.concepts import CONCEPTS

END = tokenizer_lib.CLIP_END
MERGES = ["f a", "fa c", "fac e</w>", "c l", "cl o", "clo th", "t h", "clo t", "r e", "re d</w>"]
TEXTS = [
    "",
    "face",
    "Red  Clothes,\n1girl (smile) it's 2024!",
    "Ångström naïve 長い髪 🙂",
    "a<|endoftext|>face <|startoftext|>",
    "face_red~:3",
]
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


def test_words_with_capitals_are_known_however_they_are_written():
    tags = {"tags": {"Red Dress": {}, "red hair": {}, "ÉTÉ": {}}}
    tokenizer = tokenizer_lib.word_tokenizer(tags)
    for text in ("Red Dress, ÉTÉ", "red dress, été"):
        assert words(tokenizer, text) == ["[CLS]", "red", "dress", "été", "[SEP]"]
    assert tokenizer.get_vocab_size() == 4 + len({"red", "dress", "hair", "été", "solo", *CONCEPTS})


def test_order_of_the_vocabulary_does_not_matter(tokenizer):
    turned = {"tags": dict(reversed(VOCABULARY["tags"].items()))}
    assert tokenizer_lib.word_tokenizer(turned).get_vocab() == tokenizer.get_vocab()


@pytest.fixture(scope="module", params=["<|endoftext|>", "!"])
def folder(request, tmp_path_factory):
    """vocab.json and merges.txt of a real folder's form, with either padding."""
    folder = tmp_path_factory.mktemp("tokenizer")
    letters = sorted(ByteLevel.alphabet())
    merges = [m for m in MERGES if m != "clo th"]
    tokens = ["!", *(c for c in letters if c != "!"), *(f"{c}</w>" for c in letters)]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens += [tokenizer_lib.CLIP_START, tokenizer_lib.CLIP_END]
    ids = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    settings = {"pad_token": {"content": request.param, "lstrip": False}}
    (folder / "special_tokens_map.json").write_text(json.dumps(settings))
    return folder


def oracle(folder) -> transformers.CLIPTokenizer:
    pad = json.loads((folder / "special_tokens_map.json").read_text())["pad_token"]["content"]
    vocab = json.loads((folder / "vocab.json").read_text())
    merges = [tuple(m.split()) for m in (folder / "merges.txt").read_text().splitlines()[1:]]
    return transformers.CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad)


def test_ids_equal_those_of_transformers(folder):
    found = prompts.encode(tokenizer_lib.clip_tokenizer(folder, 77), TEXTS, 77)
    expected = oracle(folder)(TEXTS, padding="max_length", max_length=77)["input_ids"]
    assert found.tolist() == expected


def test_tokenizer_json_of_transformers_is_read(folder, tmp_path):
    theirs = oracle(folder)
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    found = prompts.encode(tokenizer_lib.clip_tokenizer(tmp_path, 77), TEXTS, 77)
    assert found.tolist() == theirs(TEXTS, padding="max_length", max_length=77)["input_ids"]


def test_long_prompts_are_cut_with_a_warning_that_says_what(folder):
    tokenizer = tokenizer_lib.clip_tokenizer(folder, 5)
    with pytest.warns(UserWarning, match=r"longer than 5 tokens; .* cut: 'face red' "):
        found = prompts.encode(tokenizer, ["red, face face red"], 5)
    expected = oracle(folder)(["red, face face red"], truncation=True, max_length=5)
    assert found.tolist() == expected["input_ids"]


def test_the_warning_comes_once_for_each_prompt(folder):
    tokenizer = tokenizer_lib.clip_tokenizer(folder, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for text in ("face red", "red face", "face red", "face red"):
            prompts.encode(tokenizer, [text], 3)
    assert len(caught) == 2


def test_prompts_that_fit_are_not_warned_about(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prompts.encode(tokenizer_lib.clip_tokenizer(folder, 4), ["red face"], 4)


def test_concepts_take_as_many_tokens_as_the_longest(folder):
    tokenizer = tokenizer_lib.clip_tokenizer(folder, 77)
    expected = max(len(oracle(folder)(word)["input_ids"]) for word in ("face", "clothes"))
    longest = len(oracle(folder)("character")["input_ids"])
    assert prompts.concept_length(tokenizer) == max(expected, longest) > 3


@pytest.mark.parametrize("newer", [False, True])
def test_where_two_files_disagree_on_the_padding_it_is_that_of_transformers(
    folder, tmp_path, newer
):
    """As in SD 2.x: tokenizer_config.json names the end token, special_tokens_map.json "!"."""
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_text((folder / name).read_text())
    config = {"tokenizer_class": "CLIPTokenizer", "pad_token": END}
    if newer:
        end = json.loads((folder / "vocab.json").read_text())[END]
        content = {"content": END, "special": True}
        config["added_tokens_decoder"] = {str(end): content}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    found = tokenizer_lib.clip_tokenizer(tmp_path, 77)
    assert found.padding["pad_token"] == theirs.pad_token == (END if newer else "!")


@pytest.mark.parametrize(
    "name, content",
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"version": "1.0"}'),
        ("tokenizer_config.json", "{"),
        ("merges.txt", "no version\nalone\n"),
        ("special_tokens_map.json", '{"pad_token": "none"}'),
    ],
)
def test_damaged_tokenizers_are_named(folder, tmp_path, name, content):
    for path in folder.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{tmp_path} holds no tokenizer that can be read: "):
        tokenizer_lib.clip_tokenizer(tmp_path, 77)


def test_a_word_tokenizer_is_read_again(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer_lib.read(tmp_path / "tokenizer.json").to_str() == tokenizer.to_str()


def test_a_damaged_file_is_named(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(FileNotFoundError, match=f"{path} is missing: restore"):
        tokenizer_lib.read(path)
    path.write_text(tokenizer.to_str()[:-9])
    with pytest.raises(ValueError, match=f"{path} holds no tokenizer that .*Restore it"):
        tokenizer_lib.read(path)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds neither tokenizer.json nor vocab.json"):
        tokenizer_lib.clip_tokenizer(tmp_path, 77)


def saved_by_transformers_4(folder, tmp_path, tokens, **config):
    """vocab.json and merges.txt with added tokens beside them: (folder, id of the first)."""
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_text((folder / name).read_text())
    first = len(json.loads((folder / "vocab.json").read_text()))
    pad = json.loads((folder / "special_tokens_map.json").read_text())["pad_token"]["content"]
    settings = {"tokenizer_class": "CLIPTokenizer", "pad_token": pad} | config
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ids = {token: first + k for k, token in enumerate(tokens)}
    (tmp_path / "added_tokens.json").write_text(json.dumps(ids))
    return first


ADDED_TEXTS = ["a <mine> face", "a<MINE>face", "red <other>, <mine>", " <mine>  face ", "face"]


def assert_equal_to_transformers(folder):
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    found = tokenizer_lib.clip_tokenizer(folder, 77)
    expected = theirs(ADDED_TEXTS, padding="max_length", max_length=77)["input_ids"]
    assert prompts.encode(found, ADDED_TEXTS, 77).tolist() == expected
    return theirs, found


def test_tokens_of_added_tokens_json_are_read(folder, tmp_path):
    first = saved_by_transformers_4(folder, tmp_path, ["<mine>", "<other>"])
    _, found = assert_equal_to_transformers(tmp_path)
    assert (found.token_to_id("<mine>"), found.token_to_id("<other>")) == (first, first + 1)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("strips", [False, True])
def test_tokens_of_added_tokens_decoder_are_read(folder, tmp_path, special, strips):
    first = saved_by_transformers_4(folder, tmp_path, ["<mine>"])
    flags = {"lstrip": strips, "rstrip": strips, "normalized": not special, "special": special}
    path = tmp_path / "tokenizer_config.json"
    decoder = {str(first): {"content": "<mine>", "single_word": False, **flags}}
    config = json.loads(path.read_text()) | {"added_tokens_decoder": decoder}
    path.write_text(json.dumps(config))
    (tmp_path / "added_tokens.json").unlink()
    _, found = assert_equal_to_transformers(tmp_path)
    assert found.token_to_id("<mine>") == first


@pytest.mark.parametrize("form", ["text", "object"])
def test_special_tokens_of_the_map_are_read(folder, tmp_path, form):
    first = saved_by_transformers_4(folder, tmp_path, [])
    (tmp_path / "added_tokens.json").unlink()
    token = "<mine>" if form == "text" else {"content": "<mine>", "lstrip": False}
    pad = json.loads((tmp_path / "tokenizer_config.json").read_text())["pad_token"]
    special = {"additional_special_tokens": [token], "pad_token": pad}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    found = tokenizer_lib.clip_tokenizer(tmp_path, 77)
    assert found.token_to_id("<mine>") == first
    ids = found.encode("a <mine> face").ids
    assert first in ids


def test_added_tokens_of_tokenizer_json_are_read_and_kept(folder, tmp_path):
    theirs = oracle(folder)
    theirs.add_tokens(["<mine>", "<other>"])
    theirs.save_pretrained(tmp_path)
    _, found = assert_equal_to_transformers(tmp_path)
    found.save(str(tmp_path / "again.json"))
    again = tokenizer_lib.read(tmp_path / "again.json")
    assert again.token_to_id("<other>") == theirs.convert_tokens_to_ids("<other>")


def test_an_added_token_with_another_id_is_named(folder, tmp_path):
    first = saved_by_transformers_4(folder, tmp_path, ["<mine>"])
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<mine>": first + 5}))
    with pytest.raises(ValueError, match=f"'<mine>' has id {first + 5} there, but {first} is the"):
        tokenizer_lib.clip_tokenizer(tmp_path, 77)
