"""What is screened out and why, and tables that change what a tag is."""

import gzip
import json

import pytest

from tfds_retribooru.collect import filters
from tfds_retribooru.collect.danbooru import Post
from tfds_retribooru.collect.filters import Candidate, Criteria

GOOD = Post(
    7,
    "general",
    False,
    "0" * 32,
    "png",
    640,
    480,
    ["1girl", "pleated_skirt", "solo", "smile", "hat"],
    ["artist"],
    ["sendai"],
)
CRITERIA = Criteria(frozenset({"pleated skirt", "hat", "boots"}))


def test_a_good_post_becomes_a_candidate():
    assert filters.screen(GOOD, CRITERIA) == Candidate(
        *(7, "0" * 32, "png", 640, 480, "sendai", "artist"),
        *(["pleated skirt", "hat"], GOOD.general),
    )


@pytest.mark.parametrize("name", ["Sendai (Kantai Collection)", "sendai_\\(kantai_collection\\)"])
def test_characters_of_other_sites_are_those_of_danbooru(name):
    candidate = filters.screen(GOOD._replace(characters=[name]), CRITERIA)
    assert candidate.character == "sendai_(kantai_collection)"


def test_a_number_or_a_full_stop_is_of_the_name():
    candidate = filters.screen(GOOD._replace(characters=["2. Girl"]), CRITERIA)
    assert candidate.character == "2._girl"


def test_solo_is_so_in_any_case():
    general = ["Solo" if tag == "solo" else tag for tag in GOOD.general]
    assert isinstance(filters.screen(GOOD._replace(general=general), CRITERIA), Candidate)


@pytest.mark.parametrize("ending", ["", "avif", "jfif", "jpe", "pjpeg", "apng"])
def test_unusual_endings_are_of_pictures(ending):
    assert isinstance(filters.screen(GOOD._replace(file_ext=ending), CRITERIA), Candidate)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gone": True}, "gone"),
        ({"rating": "sensitive"}, "rating"),
        ({"rating": "explicit"}, "rating"),
        ({"file_ext": "mp4"}, "not_a_picture"),
        ({"general": ["1girl", "hat"]}, "not_solo"),
        ({"general": ["solo", "hat", "multiple_views"]}, "not_solo"),
        ({"general": ["solo", "hat", "Multiple views"]}, "not_solo"),
        ({"characters": []}, "no_character"),
        ({"characters": ["sendai", "naka"]}, "several_characters"),
        ({"artists": []}, "no_artist"),
        ({"artists": ["a", "b"]}, "several_artists"),
        ({"general": ["solo", "smile"]}, "no_clothing"),
    ],
)
def test_a_post_is_dropped_for_each_reason(change, reason):
    assert reason in filters.REASONS
    assert filters.screen(GOOD._replace(**change), CRITERIA) == reason


def test_a_post_has_the_first_reason_that_applies():
    nothing = Post(7, "explicit", True, "", "mp4", 0, 0, [], [], [])
    changes = ["gone", "rating", "not_a_picture", "not_solo", "no_character", "no_artist"]
    repairs = [
        {"gone": False},
        {"rating": "safe"},
        {"file_ext": "jpg"},
        {"general": ["solo"]},
        {"characters": ["sendai"]},
        {"artists": ["artist"]},
    ]
    for reason, repair in zip(changes, repairs, strict=True):
        assert filters.screen(nothing, CRITERIA) == reason
        nothing = nothing._replace(**repair)
    assert filters.screen(nothing, CRITERIA) == "no_clothing"


def test_aliases_apply_to_every_kind_of_tag():
    aliases = {"headwear": "hat", "sendai_kai": "sendai", "pen_name": "artist"}
    post = GOOD._replace(
        general=["solo", "headwear", "hat"],
        characters=["sendai_kai", "sendai"],
        artists=["pen_name", "artist"],
    )
    found = filters.screen(post, Criteria(CRITERIA.vocabulary, aliases=aliases))
    assert (found.character, found.artist) == ("sendai", "artist")
    assert (found.cloths, found.prompts) == (["hat"], ["solo", "hat"])


def test_a_costume_counts_as_the_character_that_it_implies():
    implications = {"sendai_(swimsuit)": ("sendai_kai",), "sendai_kai": ("sendai",)}
    criteria = Criteria(CRITERIA.vocabulary, implications=implications)
    for tags in (["sendai_(swimsuit)"], ["sendai", "sendai_(swimsuit)"], ["sendai_kai"]):
        assert filters.screen(GOOD._replace(characters=tags), criteria).character == "sendai"
    both = GOOD._replace(characters=["sendai_kai", "naka"])
    assert filters.screen(both, criteria) == "several_characters"


def rows(*pairs, **more):
    return [{"antecedent_name": a, "consequent_name": b, **more} for a, b in pairs]


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
@pytest.mark.parametrize("as_list", [True, False])
def test_tables_are_read_in_every_form(tmp_path, suffix, as_list):
    table = rows(("a", "b"), ("b", "c"), ("x", "y")) + rows(("c", "d"), status="deleted")
    text = json.dumps(table) if as_list else "\n".join(map(json.dumps, table))
    path = tmp_path / f"table{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    assert filters.read_aliases(path) == {"a": "c", "b": "c", "x": "y"}
    assert filters.read_implications(path) == {"a": ("b",), "b": ("c",), "x": ("y",)}


def test_aliases_that_go_in_a_circle_end(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(rows(("a", "b"), ("b", "a"), ("c", "c"))))
    assert filters.read_aliases(path).keys() == {"a", "b"}


@pytest.mark.parametrize("text", ['{"antecedent_name": "a"}', "[1]", '{"antecedent'])
def test_a_table_with_a_hole_is_an_error(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(rows(("a", "b"))[0]) + "\n" + text)
    if text == "[1]":
        path.write_text(text)
    with pytest.raises(ValueError, match="table.json, line"):
        filters.read_aliases(path)


def test_the_vocabulary_that_ships_names_its_source_and_clothes():
    tags = filters.read_vocabulary()
    assert {"skirt", "single thighhigh", "school uniform", "red skirt"} <= tags
    assert not any(tag != tag.strip() or "_" in tag or tag != tag.lower() for tag in tags)
    head = filters.VOCABULARY.read_text().split("# Garments")[0]
    assert "Source:" in head and "Licence: Apache-2.0" in head


def test_a_vocabulary_of_ones_own(tmp_path):
    path = tmp_path / "clothes.txt"
    path.write_text("# mine\npleated_skirt  # short\n\nhat\n")
    assert filters.read_vocabulary(path) == {"pleated skirt", "hat"}
    path.write_text("# none\n")
    with pytest.raises(ValueError, match="clothes.txt: no clothing tag"):
        filters.read_vocabulary(path)


def test_a_vocabulary_may_be_of_windows_and_what_is_not_unicode_is_named(tmp_path):
    path = tmp_path / "clothing.txt"
    path.write_bytes("skirt\r\n".encode("utf-16"))
    assert filters.read_vocabulary(path) == {"skirt"}
    path.write_bytes(b"b\xe9ret\n")
    with pytest.raises(ValueError, match=r"clothing.txt is not UTF-8 .*save it as UTF-8"):
        filters.read_vocabulary(path)
