"""Posts of both dialects; one fault of each kind; anything at all."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfds_retribooru import json_stream
from tfds_retribooru.building.records import Fault
from tfds_retribooru.collect import danbooru
from tfds_retribooru.collect.danbooru import Post
from tfds_retribooru.json_stream import Document

UNTIL_2021 = {
    "id": "2895557",
    "created_at": "2017-11-01 00:00:00 UTC",
    "md5": "D34E4CF0A437A5D65F8E82B7BCD02606",
    "rating": "s",
    "image_width": "800",
    "image_height": "1000",
    "file_ext": "JPG",
    "is_deleted": False,
    "is_banned": False,
    "tags": [
        {"id": "1", "name": "1girl", "category": "0"},
        {"id": "2", "name": "rinto_(rint_rnt)", "category": "1"},
        {"id": "3", "name": "kantai_collection", "category": "3"},
        {"id": "4", "name": "sendai_(kantai_collection)", "category": "4"},
        {"id": "5", "name": "skirt", "category": "0"},
    ],
}
AFTER = {
    "id": 2895557,
    "md5": "d34e4cf0a437a5d65f8e82b7bcd02606",
    "rating": "g",
    "image_width": 800,
    "image_height": 1000,
    "file_ext": "jpg",
    "is_deleted": False,
    "is_banned": False,
    "tag_string_general": "1girl skirt",
    "tag_string_artist": "rinto_(rint_rnt)",
    "tag_string_character": "sendai_(kantai_collection)",
    "tag_string_copyright": "kantai_collection",
}
SENDAI = Post(
    2895557,
    "general",
    False,
    "d34e4cf0a437a5d65f8e82b7bcd02606",
    "jpg",
    800,
    1000,
    ["1girl", "skirt"],
    ["rinto_(rint_rnt)"],
    ["sendai_(kantai_collection)"],
)


def read(*values) -> list:
    return list(danbooru.posts(Document(k, value) for k, value in enumerate(values, 1)))


def test_both_dialects_give_the_same_post_but_for_the_rating():
    assert read(AFTER) == [(1, SENDAI)]
    assert read(UNTIL_2021) == [(1, SENDAI._replace(rating="safe"))]


@pytest.mark.parametrize(
    ("letter", "until_2021", "after"),
    [
        ("g", None, "general"),
        ("s", "safe", "sensitive"),
        ("q", "questionable", "questionable"),
        ("e", "explicit", "explicit"),
    ],
)
def test_a_rating_means_what_its_dialect_says(letter, until_2021, after):
    for post, expected in ((UNTIL_2021, until_2021), (AFTER, after)):
        (found,) = read({**post, "rating": letter})
        if expected is None:
            assert found == Fault("2895557", "bad_rating", line=1)
        else:
            assert found[1].rating == expected


@pytest.mark.parametrize("key", ["is_deleted", "is_banned"])
@pytest.mark.parametrize("dialect", [UNTIL_2021, AFTER])
def test_deleted_and_banned_are_gone(dialect, key):
    assert read({**dialect, key: True})[0][1].gone
    assert not read({**dialect, key: None})[0][1].gone
    words = {
        word: read({**dialect, key: word})[0][1].gone for word in ("True", "YES", "False", "f")
    }
    assert words == {"True": True, "YES": True, "False": False, "f": False}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "../../etc/passwd"}, "bad_id"),
        ({"id": -4}, "bad_id"),
        ({"id": 1.5}, "bad_id"),
        ({"id": True}, "bad_id"),
        ({"id": None}, "bad_id"),
        ({"id": "9" * 30}, "bad_id"),
        ({"id": 2**63}, "bad_id"),
        ({"rating": "x"}, "bad_rating"),
        ({"rating": ["g"]}, "bad_rating"),
        ({"tag_string_general": None}, "bad_tags"),
        ({"tag_string_artist": 7}, "bad_tags"),
        ({"tag_string_artist": ["a", 7]}, "bad_tags"),
    ],
)
def test_a_fault_costs_the_post_and_is_named(change, reason):
    name = str({**AFTER, **change}["id"])[:40]
    assert read({**AFTER, **change}, UNTIL_2021)[0] == Fault(name, reason, line=1)
    assert len(read({**AFTER, **change}, UNTIL_2021)) == 2


@pytest.mark.parametrize("nothing", [None, float("nan"), ""])
def test_nobody_is_no_fault_however_a_table_writes_it(nothing):
    (found,) = read({**AFTER, "tag_string_artist": nothing, "tag_string_character": nothing})
    assert found == (1, SENDAI._replace(artists=[], characters=[]))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ([{"name": 3, "category": 0}], "bad_tags"),
        ([{"name": "skirt", "category": "clothes"}], "bad_tags"),
        ([3], "bad_tags"),
        (None, "bad_tags"),
        ({"general": ["skirt"]}, "bad_tags"),
        (["skirt"], "untyped_tags"),
        ("1girl skirt", "untyped_tags"),
    ],
)
def test_tags_that_cannot_be_used_cost_the_post(tags, reason):
    assert read({**UNTIL_2021, "tags": tags}) == [Fault("2895557", reason, line=1)]
    without = {key: value for key, value in UNTIL_2021.items() if key != "tags"}
    assert read({**without, "tag_string": "1girl"}) == [Fault("2895557", "untyped_tags", line=1)]
    # the same beside tags that can be used
    assert read({**AFTER, "tags": tags}) == [(1, SENDAI)]


def test_a_category_of_a_sites_own_costs_the_tags_of_that_category_alone():
    (expected,) = read(UNTIL_2021)
    own = {"names": ["girls_und_panzer"], "category": "series"}
    assert read({**UNTIL_2021, "tags": [own, *UNTIL_2021["tags"]]}) == [expected]


GENERAL = ["1girl", "skirt"]
GALLERY_DL = {
    "tags_general": GENERAL,
    "tags_artist": ["rinto_(rint_rnt)"],
    "tags_character": ["sendai_(kantai_collection)"],
    "tags": [*GENERAL, "sendai_(kantai_collection)"],
}
E621 = {
    "id": 2895557,
    "file": {"width": 800, "height": 1000, "ext": "jpg", "md5": SENDAI.md5, "url": None},
    "rating": "s",
    "tags": {
        "general": GENERAL,
        "artist": ["rinto_(rint_rnt)"],
        "character": ["sendai_(kantai_collection)"],
        "species": [],
    },
    "flags": {"pending": False, "deleted": False},
}
GELBOORU = {  # by gallery-dl with its option `tags`
    "id": 2895557,
    "width": 800,
    "height": 1000,
    "md5": SENDAI.md5,
    "image": SENDAI.md5 + ".jpg",
    "rating": "general",
    "tags": "1girl skirt",
    "tags_general": "1girl skirt",
    "tags_artist": "rinto_(rint_rnt)",
    "tags_character": "sendai_(kantai_collection)",
    "status": "active",
}


def test_the_fields_that_gallery_dl_adds_change_nothing():
    assert read({**AFTER, **GALLERY_DL, "extension": "jpg", "category": "danbooru"}) == [
        (1, SENDAI)
    ]


@pytest.mark.parametrize(("post", "rating"), [(E621, "safe"), (GELBOORU, "general")])
def test_other_sites_are_read_where_their_tags_have_kinds(post, rating):
    assert read(post) == [(1, SENDAI._replace(rating=rating))]


@pytest.mark.parametrize(
    "post", [{**E621, "flags": {"deleted": True}}, GELBOORU | {"status": "deleted"}]
)
def test_deleted_posts_of_other_sites_are_gone(post):
    assert read(post)[0][1].gone


def test_a_kind_without_tags_may_be_missing_where_gallery_dl_writes_them():
    post = {key: value for key, value in GELBOORU.items() if key != "tags_artist"}
    assert read(post)[0][1].artists == []


@pytest.mark.parametrize("word", danbooru.WORDS)
@pytest.mark.parametrize("dialect", [UNTIL_2021, AFTER, E621])
def test_ratings_may_be_words_in_every_dialect(dialect, word):
    for spelled in (word, word.title()):
        assert read({**dialect, "rating": spelled})[0][1].rating == word


def test_kinds_beside_an_object_of_all_tags_do_not_hide_it():
    assert read({**E621, "tags_artist": ["other"]}) == [(1, SENDAI._replace(rating="safe"))]


SITES = {  # what gallery-dl (with its option `tags`) writes of other sites
    "konachan": {"tags": "1girl skirt", "author": "a", "is_held": False, "rating": "s"},
    "sankaku": {"tags": GENERAL, "rating": "s", "tags_studio": [], "file_type": "image/jpeg"},
    "e621": {"tags": {"general": GENERAL}, "rating": "s", "tags_species": []},
}


@pytest.mark.parametrize("site", SITES)
def test_of_other_sites_the_letter_s_means_safe(site):
    kinds = {key: value for key, value in GALLERY_DL.items() if key != "tags"}
    post = {"id": SENDAI.id, "md5": SENDAI.md5, "width": 800, "height": 1000} | kinds | SITES[site]
    post["file_url"] = f"https://example.org/a.b/{SENDAI.md5}.jpg?1588"
    (found,) = (item for item in read(post) if not isinstance(item, Fault))
    assert found == (1, SENDAI._replace(rating="safe"))


@pytest.mark.parametrize("url", ["https://[", "no ending", "x.", "a/b.c/d", 3])
def test_an_address_that_tells_no_ending_is_no_fault(url):
    post = {key: value for key, value in AFTER.items() if key != "file_ext"}
    assert read(post | {"file_url": url}) == [(1, SENDAI._replace(file_ext=""))]


def test_the_letter_s_means_safe_where_ratings_could_be_locked():
    """The API had `is_rating_locked` before "s" came to mean sensitive."""
    assert read({**AFTER, "rating": "s", "is_rating_locked": False})[0][1].rating == "safe"
    assert read({**AFTER, "rating": "s"})[0][1].rating == "sensitive"


@pytest.mark.parametrize(
    ("change", "reason", "expected"),
    [
        ({"md5": "12"}, "bad_md5", {"md5": ""}),
        ({"file_ext": "../png"}, "bad_file_ext", {"file_ext": ""}),
        ({"image_width": "wide"}, "bad_size", {"width": 0, "height": 0}),
        ({"image_height": float("nan")}, "bad_size", {"width": 0, "height": 0}),
    ],
)
def test_a_bad_part_costs_that_part(change, reason, expected):
    fault, (line, post) = read({**AFTER, **change})
    assert fault == Fault("2895557", reason, line=1)
    assert (line, post) == (1, SENDAI._replace(**expected))


def test_missing_parts_are_no_faults():
    keys = ("md5", "file_ext", "image_width", "image_height")
    (found,) = read({key: value for key, value in AFTER.items() if key not in keys})
    assert found[1] == SENDAI._replace(md5="", file_ext="", width=0, height=0)


def test_an_unknown_key_is_reported_once():
    found = read({**AFTER, "mood": 1}, {**AFTER, "mood": 2, "a": 1})
    assert found == [
        Fault("", "unknown_key mood", line=1),
        (1, SENDAI),
        Fault("", "unknown_key a", line=2),
        (2, SENDAI),
    ]


def test_a_tag_that_is_not_utf8_is_lost_alone():
    broken = {**AFTER, "tag_string_general": "1girl caf\ufffd skirt"}
    found = list(danbooru.posts([Document(4, broken, "bad_utf8")]))
    assert found == [Fault("2895557", "bad_utf8", line=4), (4, SENDAI)]


@pytest.mark.parametrize("value", [None, 3, "text", [AFTER]])
def test_what_is_no_object_is_a_fault(value):
    assert read(value) == [Fault("", "not_an_object", line=1)]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@given(st.sampled_from([UNTIL_2021, AFTER]), st.sampled_from(sorted(AFTER) + ["tags"]), ANYTHING)
@settings(max_examples=150, deadline=None)
def test_any_value_of_any_key_gives_a_post_or_a_fault(post, key, value):
    found = read({**post, key: value}, AFTER)
    assert found[-1] == (2, SENDAI)
    assert len(found) >= 2
    for item in found[:-1]:
        if not isinstance(item, Fault):
            assert 0 < item[1].id < 2**63
            json.dumps(item[1])


KINDS = {"general": "1girl skirt", "artist": "rinto_(rint_rnt)", "copyright": "kantai_collection"}
TYPED = [(kind, name) for kind, text in KINDS.items() for name in text.split()]
TYPED.append(("character", "sendai_(kantai_collection)"))
TAGS = {
    "rule34": {"tags": "1girl skirt", "tag_info": [{"tag": n, "type": k} for k, n in TYPED]},
    "sankaku": {
        "tags": [{"name": n, "type": danbooru.CATEGORIES[k], "id": 1} for k, n in TYPED],
    },
    "szurubooru": {"tags": [{"names": [n, "other"], "category": k} for k, n in TYPED]},
}
TAGS["rule34"]["tag_info"][0]["type"] = "tag"


@pytest.mark.parametrize("site", TAGS)
def test_other_sites_that_say_the_kinds_of_tags_are_read(site):
    known = {"id": 2895557.0, "md5": AFTER["md5"], "file_ext": "jpg", "width": 800, "height": 1000}
    assert read({**known, **TAGS[site], "rating": " Safe"}) == [(1, SENDAI._replace(rating="safe"))]


@pytest.mark.parametrize(
    ("safety", "rating"), [("safe", "safe"), ("sketchy", "questionable"), ("unsafe", "explicit")]
)
def test_a_post_of_szurubooru_is_read_as_its_api_gives_it(safety, rating):
    post = {"id": 2895557, "safety": safety, "type": "image", "mimeType": "image/jpeg"}
    post |= {"checksumMD5": AFTER["md5"], "canvasWidth": 800, "canvasHeight": 1000, "flags": []}
    post |= {"contentUrl": "data/posts/2895557_ab.jpg", "relations": [{"id": 3}], "version": 1}
    assert read({**post, **TAGS["szurubooru"]}) == [(1, SENDAI._replace(rating=rating))]


@pytest.mark.parametrize("said", ["banned_artist", "conditional_dnp", "unknown_artist"])
def test_what_a_site_says_of_artists_is_no_artist(said):
    (post,) = read({**AFTER, "tag_string_artist": f"{said} rinto_(rint_rnt)"})
    assert post[1].artists == ["rinto_(rint_rnt)"]


MOEBOORU = {"id": 2895557, "md5": SENDAI.md5, "file_ext": "jpg", "width": 800, "height": 1000}
MOEBOORU |= {"rating": "s", "tags": "1girl skirt rinto_(rint_rnt) sendai_(kantai_collection) c90"}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_table_of_kinds_beside_the_posts_is_read(indent, is_before):
    """As yande.re answers to `include_tags=1`; a tag that the table lacks has no kind."""
    kinds = {name: kind for kind, name in TYPED} | {"c90": "circle"}
    posts = {"posts": [MOEBOORU, {**MOEBOORU, "tags": "1girl unheard_of"}]}
    answer = {"tags": kinds} | posts if is_before else posts | {"tags": kinds}
    text = json.dumps(answer, indent=indent).encode()
    (_, post), fault = danbooru.posts(json_stream.read(io.BytesIO(text)))
    assert post == SENDAI._replace(rating="safe")
    assert fault.reason == "untyped_tags"


def test_pages_in_a_list_keep_their_own_tables_of_kinds():
    """As `jq --slurp` joins answers; a tag may have another kind in another page."""
    kinds = {name: kind for kind, name in TYPED} | {"c90": "circle"}
    pages = [
        {"posts": [MOEBOORU], "tags": kinds},
        {"posts": [MOEBOORU], "tags": kinds | {"skirt": "artist"}},
        {"posts": [MOEBOORU], "tags": {}},
    ]
    text = json.dumps(pages).encode()
    first, second, third = danbooru.posts(json_stream.read(io.BytesIO(text)))
    assert first[1] == SENDAI._replace(rating="safe")
    assert second[1].general == ["1girl"] and "skirt" in second[1].artists
    assert third.reason == "untyped_tags"


def test_the_hash_of_sites_without_md5_is_one():
    """Rule34 and Safebooru call the picture's MD5 `hash`."""
    post = {key: value for key, value in GELBOORU.items() if key != "md5"}
    assert read(post | {"hash": SENDAI.md5}) == [(1, SENDAI)]
    assert read(post | {"hash": "e0c1"}) == [(1, SENDAI._replace(md5=""))]  # of another kind
