"""Every post is kept or named, whatever the form of the metadata; and when a collection fails."""

import bz2
import dataclasses
import gzip
import json
import lzma
import os
from collections import Counter

import pytest

from tests.helpers import danbooru_dump, retribooru_folder
from tfds_retribooru.collect import image_models, outcome, run_local
from tfds_retribooru.collect.outcome import CollectionFailed
from tfds_retribooru.collect.settings import Settings

POSTS = [
    danbooru_dump.post(1),
    danbooru_dump.post(2, source="é日本\ud83d"),
    danbooru_dump.post(3, rating="q"),
    danbooru_dump.until_2021(danbooru_dump.post(4)),
    danbooru_dump.post(5, tag_string_artist=""),
    danbooru_dump.post(6, id="x"),
    danbooru_dump.post(7, tags=["1girl"], tags_general=danbooru_dump.OUTFIT),
]
KEPT = ["1", "2", "4", "7"]
NAMED = [("2", "bad_utf8"), ("3", "rating"), ("5", "no_artist"), ("x", "bad_id")]


def pretty(posts) -> str:
    return "".join(json.dumps(post, indent=4) + "\n" for post in posts)


FORMS = {
    "lines": "".join(json.dumps(post) + "\n" for post in POSTS),
    "lines without an end": "\n".join(json.dumps(post) for post in POSTS),
    "lines with commas": ",\n".join(json.dumps(post) for post in POSTS),
    "empty lines": "\n\n \n".join(json.dumps(post) for post in POSTS),
    "one line": "".join(json.dumps(post) for post in POSTS),
    "record separators": "".join(f"\x1e{json.dumps(post)}\n" for post in POSTS),
    "indented": pretty(POSTS),
    "indented without indentation": "\n".join(json.dumps(post, indent=0) for post in POSTS),
    "lines, then indented": json.dumps(POSTS[0])
    + "\n"
    + pretty(POSTS[1:5])
    + json.dumps(POSTS[5:]),
    "indented, then lines": pretty(POSTS[:3]) + "\n".join(map(json.dumps, POSTS[3:])),
    "list": json.dumps(POSTS),
    "indented list": json.dumps(POSTS, indent=2),
    "list by lines": "[\n" + ",\n".join(map(json.dumps, POSTS)) + "\n]\n",
    "list of a page each line": json.dumps(POSTS[:3]) + "\n" + json.dumps(POSTS[3:]) + "\n",
    "lists, indented": json.dumps(POSTS[:3], indent=1) + json.dumps(POSTS[3:], indent=1),
    "wrapped": json.dumps({"posts": POSTS}),
    "wrapped, indented": json.dumps({"posts": POSTS, "next": {"page": 2}, "n": [1]}, indent=4),
    "wrapped by lines": json.dumps({"posts": POSTS[:3]}) + "\n" + json.dumps({"posts": POSTS[3:]}),
    "wrapped, key behind others": json.dumps(
        {"success": True, "page": 1, "posts": POSTS}, indent=1
    ),
    "Gelbooru": json.dumps({"@attributes": {"limit": 100, "count": 6}, "post": POSTS}, indent=1),
    "wrapped one by one": "\n".join(json.dumps({"post": post}) for post in POSTS),
    "without posts": json.dumps({"@attributes": {"count": 0}})
    + json.dumps({"posts": []})
    + json.dumps(POSTS),
}


def collect(tmp_path, data: bytes, **options) -> tuple[Counter, list[str], list]:
    path = tmp_path / "posts.json"
    path.write_bytes(data)
    settings = Settings((str(path),), tmp_path / "out", max_unreadable=1, **options)
    counts = run_local.collect(settings)
    found, dropped = danbooru_dump.read(settings.out)
    return counts, list(found), [(row[2], row[3]) for row in dropped]


@pytest.mark.parametrize("form", FORMS)
def test_read_is_kept_and_named_in_every_form(tmp_path, form):
    counts, kept, dropped = collect(tmp_path, FORMS[form].encode())
    assert kept == KEPT
    assert sorted(dropped) == NAMED
    assert outcome.number_read(counts) == len(kept) + 3 == len(POSTS)


ENCODINGS = {
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16 and CRLF": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "bz2": lambda text: bz2.compress(text.encode()),
    "xz": lambda text: lzma.compress(text.encode()),
    "gzip of UTF-16": lambda text: gzip.compress(text.encode("utf-16")),
    "two gzip members": lambda text: (
        gzip.compress(text[:900].encode()) + gzip.compress(text[900:].encode())
    ),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", ["lines", "indented", "indented list", "wrapped"])
def test_read_is_kept_and_named_in_every_encoding(tmp_path, form, encoding):
    counts, kept, dropped = collect(tmp_path, ENCODINGS[encoding](FORMS[form]))
    assert (kept, len(dropped), outcome.number_read(counts)) == (KEPT, 4, len(POSTS))


@pytest.mark.parametrize("form", ["lines", "indented", "indented list", "list by lines"])
def test_a_damaged_post_is_named_and_the_others_are_read(tmp_path, form):
    text = FORMS[form].replace('"id": 5', '"id": 5 5')
    counts, kept, dropped = collect(tmp_path, text.encode())
    assert kept == KEPT
    named = [("", "bad_json"), ("2", "bad_utf8"), ("3", "rating"), ("x", "bad_id")]
    assert sorted(dropped) == named
    assert outcome.number_read(counts) == len(POSTS)


def test_gzip_that_breaks_off_keeps_what_stands_before(tmp_path):
    text = FORMS["lines"] + "\n".join(json.dumps(danbooru_dump.post(k)) for k in range(100, 999))
    counts, kept, dropped = collect(tmp_path, gzip.compress(text.encode())[:-3000])
    assert kept[:4] == KEPT and 100 < len(kept) < 900
    assert counts["damaged_file"] == 1
    assert outcome.number_read(counts) == len(kept) + len(dropped) - counts["bad_utf8"]


HALF = "\ud83d"  # of a surrogate pair: JSON can say it, no text can hold it


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": HALF}, "bad_id"),
        ({"tag_string_character": "sendai" + HALF}, "no_character"),
        ({"tag_string_artist": "a" + HALF}, "no_artist"),
        ({"tag_string_general": " ".join([*danbooru_dump.OUTFIT, "x" + HALF])}, ""),
        ({"tags": [HALF]}, ""),
        ({HALF: 1}, "unknown_key \ufffd"),
    ],
)
def test_half_a_character_costs_what_holds_it(tmp_path, change, reason, indent):
    posts = [danbooru_dump.post(1) | change, danbooru_dump.post(2), danbooru_dump.post(3)]
    text = "\n".join(json.dumps(post, indent=indent) for post in posts)
    counts, kept, _ = collect(tmp_path, text.encode())
    is_lost = reason and not reason.startswith("unknown_key")
    assert kept == (["2", "3"] if is_lost else ["1", "2", "3"])
    assert counts == {"kept": len(kept), "bad_utf8": 1} | ({reason: 1} if reason else {})


def test_a_file_whose_name_is_no_utf8_is_named(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.json"
    with open(path, "w") as file:
        file.write(lines(*(danbooru_dump.post(k, id=k if k < 3 else "x") for k in range(1, 4))))
    settings = Settings((os.fsdecode(path),), tmp_path / "out", max_unreadable=1)
    assert run_local.collect(settings) == {"kept": 2, "bad_id": 1}
    _, dropped = danbooru_dump.read(settings.out)
    assert dropped == [("caf\\xe9.json", 3, "x", "bad_id")]


# --- when a collection fails


def lines(*posts) -> str:
    return "".join(json.dumps(post) + "\n" for post in posts)


def untyped(name: int) -> dict:
    return {"id": name, "rating": "general", "tags": "1girl solo skirt"}


def fail(tmp_path, text: str, **options) -> str:
    """Returns the message; no folder is left, but the list of what was dropped."""
    path = tmp_path / "posts.json"
    path.write_text(text)
    settings = Settings((str(path),), tmp_path / "out", **options)
    with pytest.raises(CollectionFailed) as failed:
        run_local.collect(settings)
    assert {p.name for p in tmp_path.iterdir()} == {"posts.json", "out.dropped.jsonl"}
    counts = failed.value.counts
    rows = danbooru_dump.read_dropped(tmp_path / "out.dropped.jsonl")
    assert outcome.number_read(counts) == counts["kept"] + len(rows)
    return str(failed.value)


def test_a_file_without_a_byte_is_an_error_that_names_it(tmp_path):
    message = fail(tmp_path, "")
    assert "nothing is kept of 1 posts" in message and "not_json" in message


@pytest.mark.parametrize("text", ["\n\n", "[]", '{"posts": []}'])
def test_metadata_without_a_post_is_an_error(tmp_path, text):
    assert "there is no post in the metadata" in fail(tmp_path, text)


def test_to_keep_nothing_is_an_error_with_reasons_and_examples(tmp_path):
    posts = [danbooru_dump.post(k, rating="e") for k in (3, 4)]
    message = fail(tmp_path, lines(untyped(9), *posts), max_unreadable=1)
    first, rating, tags = message.splitlines()
    assert first == (
        f"nothing is kept of 3 posts, so {tmp_path}/out is not written; "
        f"all of them: {tmp_path}/out.dropped.jsonl"
    )
    place = f"such as post 3, {tmp_path}/posts.json, line 2"
    assert rating == f"           2  rating (not an accepted rating, see --ratings), {place}"
    assert "           1  untyped_tags (tags without kinds" in tags and "post 9" in tags


def test_too_many_unreadable_posts_are_an_error(tmp_path):
    posts = [danbooru_dump.post(k) for k in range(1, 8)]
    text = lines(*posts, untyped(8), danbooru_dump.post(9, rating="?"), 3)
    message = fail(tmp_path, text)
    assert "3 of 10 posts cannot be read" in message
    assert "more than --max_unreadable 0.2 allows" in message
    assert {row.split()[1] for row in message.splitlines()[1:]} == {
        "untyped_tags",
        "bad_rating",
        "not_an_object",
    }
    counts = run_local.collect(
        Settings((str(tmp_path / "posts.json"),), tmp_path / "out", max_unreadable=0.3)
    )
    assert counts["kept"] == 7
    assert not (tmp_path / "out.dropped.jsonl").exists()  # of the collection before


def test_a_file_that_breaks_off_is_an_error_whatever_it_held(tmp_path):
    text = json.dumps([danbooru_dump.post(k) for k in range(1, 100)])[:-100]
    assert "1 of 1 files break off, are no JSON" in fail(tmp_path, text)


def test_a_file_that_is_no_json_is_an_error_beside_one_with_many_posts(tmp_path):
    """Nobody knows how many posts it was to hold."""
    good, page = tmp_path / "good.json", tmp_path / "page.json"
    good.write_text(lines(*(danbooru_dump.post(k) for k in range(1, 100))))
    page.write_text("<html>\n<p>Too many requests</p>\n")
    settings = Settings((str(good), str(page)), tmp_path / "out")
    with pytest.raises(CollectionFailed, match="1 of 2 files break off, are no JSON") as failed:
        run_local.collect(settings)
    assert failed.value.counts == {"kept": 99, "bad_json": 1, "not_json": 1}
    assert "not_json (no object of JSON up to there" in str(failed.value)
    assert f"such as {page}, line 2" in str(failed.value)
    counts = run_local.collect(dataclasses.replace(settings, max_unreadable=0.5))
    assert counts["kept"] == 99


@pytest.mark.parametrize("row", ['{k},{k:032x},g,"solo 1girl"\n', "[{k}]\n", "x\n"])
def test_a_table_is_given_up_early(tmp_path, row):
    """Its numbers and words are values, too; of millions nobody wants a list."""
    table = "id,md5,rating,tags\n" + "".join(row.format(k=k) for k in range(1, 30_000))
    message = fail(tmp_path, table)
    dropped = (tmp_path / "out.dropped.jsonl").read_text().splitlines()
    assert message.startswith("nothing is kept of 10,001 posts") and len(dropped) == 10_001
    assert json.loads(dropped[-1])["reason"] == "not_json" and "1  not_json (no object" in message


def test_posts_that_are_filtered_are_no_error(tmp_path):
    posts = [danbooru_dump.post(k, rating="g" if k < 3 else "e") for k in range(1, 90)]
    (tmp_path / "posts.json").write_text(lines(*posts))
    counts = run_local.collect(Settings((str(tmp_path / "posts.json"),), tmp_path / "out"))
    assert counts == {"kept": 2, "rating": 87}


def test_next_to_nothing_kept_is_an_error_whatever_the_reasons(tmp_path):
    posts = [danbooru_dump.post(k, rating="g" if k < 3 else "e") for k in range(1, 3000)]
    message = fail(tmp_path, lines(*posts))
    assert message.startswith("only 2 of 2,999 posts are kept, a smaller share than --min_kept")
    assert (
        "       2,997  rating (not an accepted rating, see --ratings), such as post 3," in message
    )
    settings = Settings((str(tmp_path / "posts.json"),), tmp_path / "out", min_kept=0)
    assert run_local.collect(settings)["kept"] == 2


@pytest.fixture
def few_images(tmp_path):
    """A folder with the images of posts 1 to 5."""
    folder = tmp_path / "art"
    folder.mkdir()
    for k in range(1, 6):
        retribooru_folder.draw_image(k).save(folder / f"{k}.png")
    return folder


def test_many_missing_images_are_an_error_before_a_model_is_asked(tmp_path, few_images):
    posts = [danbooru_dump.post(k) for k in range(1, 9)]
    (few_images / "5.png").write_bytes(b"")
    path = tmp_path / "posts.json"
    path.write_text(lines(*posts, *(danbooru_dump.post(k, rating="e") for k in range(20, 90))))
    settings = Settings((str(path),), tmp_path / "out", images=few_images)
    models = image_models.Models(vqa=lambda images: 1 / 0)
    with pytest.raises(CollectionFailed) as failed:
        run_local.collect(settings, models)
    first, missing, broken = str(failed.value).splitlines()
    assert first.startswith(f"4 of 8 images are missing in {few_images} or cannot be read: more")
    assert "3  no_image" in missing and "such as post 6, " in missing
    assert "1  unreadable_image" in broken and "such as post 5, " in broken
    assert not settings.out.exists()
    assert len(danbooru_dump.read_dropped(tmp_path / "out.dropped.jsonl")) == 74
    counts = run_local.collect(dataclasses.replace(settings, max_unreadable=0.5))
    assert counts == {"kept": 4, "no_image": 3, "unreadable_image": 1, "rating": 70}


def test_images_are_no_error_where_metadata_alone_is_collected(tmp_path):
    path = tmp_path / "posts.json"
    path.write_text(lines(*(danbooru_dump.post(k) for k in range(1, 9))))
    assert run_local.collect(Settings((str(path),), tmp_path / "out")) == {"kept": 8}
