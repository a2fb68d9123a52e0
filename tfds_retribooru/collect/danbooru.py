"""Danbooru metadata, in the dialect until 2021 and the one after, as posts of one kind.

Until 2021 ids and sizes are strings, `tags` is a list of {id, name, category}, and rating "s" means
safe. After, they are integers, tags stand in `tag_string_KIND`, and "s" means sensitive.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tfds_retribooru.building.records import Fault
from tfds_retribooru.json_stream import Document

RATINGS_2021 = {"s": "safe", "q": "questionable", "e": "explicit"}
RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
GENERAL, ARTIST, CHARACTER = 0, 1, 4  # categories of the older dialect
Tags = tuple[list[str], list[str], list[str]]  # general, artists, characters
KNOWN_KEYS = frozenset(
    "id created_at updated_at uploader_id approver_id score up_score down_score source md5 rating "
    "image_width image_height file_ext file_size parent_id has_children has_active_children "
    "has_visible_children has_large is_note_locked is_rating_locked is_status_locked is_pending "
    "is_flagged is_deleted is_banned last_noted_at last_commented_at last_comment_bumped_at "
    "pixiv_id tags pools favs fav_count fav_string bit_flags media_asset tag_string tag_count "
    "tag_string_general tag_string_artist tag_string_character tag_string_copyright "
    "tag_string_meta tag_count_general tag_count_artist tag_count_character tag_count_copyright "
    "tag_count_meta file_url large_file_url preview_file_url keeper_data pool_string "
    "is_favorited children_ids uploader_name".split()
)


class Post(NamedTuple):
    """The part of a post that the collection needs.

    Attributes:
        id: positive; also decides the image's folder.
        rating: "general", "sensitive", "questionable", "explicit", or "safe" (until 2021).
        gone: deleted or banned.
        md5: hexadecimal; "" if unknown.
        file_ext: lower case; "" if unknown.
        width, height: of the original, in pixels; 0 if unknown.
        general, artists, characters: tags with underscores, in the order of the metadata.
    """

    id: int
    rating: str
    gone: bool
    md5: str
    file_ext: str
    width: int
    height: int
    general: list[str]
    artists: list[str]
    characters: list[str]


def posts(documents: Iterable[Document]) -> Iterator[tuple[int, Post] | Fault]:
    """Yields (line, post), and a fault for each document or part of one that cannot be used.

    Faults that drop the post: bad_json, truncated_list (all that follows), not_an_object, bad_id,
    bad_rating, bad_tags. Faults that drop a field: bad_utf8 (the tags that hold it), bad_md5,
    bad_file_ext, bad_size. An unknown key drops nothing and is named once (unknown_key KEY).
    """
    seen = set(KNOWN_KEYS)
    for line, value, fault in documents:
        name = str(value["id"])[:40] if isinstance(value, dict) and "id" in value else ""
        if fault:
            yield Fault(name, fault, line=line)
            if fault != "bad_utf8":
                continue
        if not isinstance(value, dict):
            yield Fault(name, "not_an_object", line=line)
            continue
        if not value.keys() <= seen:
            for key in sorted(value.keys() - seen):
                yield Fault("", f"unknown_key {key}", line=line)
            seen |= value.keys()
        try:
            post = parse(value)
        except ValueError as error:
            yield Fault(name, str(error), line=line)
            continue
        yield from (Fault(name, reason, line=line) for reason in _unreadable_fields(value, post))
        yield line, post


def parse(value: dict[str, Any]) -> Post:
    """Reads a post of either dialect.

    Raises:
        ValueError: it has no usable id, rating or tags; the message is the reason.
    """
    tagged = isinstance(value.get("tags"), list)
    general, artists, characters = _tag_list(value["tags"]) if tagged else _tag_strings(value)
    letter = value.get("rating")
    ratings = RATINGS_2021 if tagged else RATINGS
    rating = ratings.get(letter) if isinstance(letter, str) else None
    if rating is None:
        raise ValueError("bad_rating")
    width, height = _number(value.get("image_width")), _number(value.get("image_height"))
    return Post(
        id=_id(value.get("id")),
        rating=rating,
        gone=_is_true(value.get("is_deleted")) or _is_true(value.get("is_banned")),
        md5=_text(r"[0-9a-fA-F]{32}", value.get("md5")).lower(),
        file_ext=_text(r"[0-9a-zA-Z]{1,5}", value.get("file_ext")).lower(),
        width=width if width and height else 0,
        height=height if width and height else 0,
        general=general,
        artists=artists,
        characters=characters,
    )


def _unreadable_fields(value: dict[str, Any], post: Post) -> Iterator[str]:
    """Yields the reasons of the fields that are there but could not be read."""
    if not post.md5 and value.get("md5"):
        yield "bad_md5"
    if not post.file_ext and value.get("file_ext"):
        yield "bad_file_ext"
    if not post.width and (value.get("image_width") or value.get("image_height")):
        yield "bad_size"


def _id(value: object) -> int:
    """Reads a decimal number below 2**63, so that an id is never a path."""
    number = _number(value)
    if not 0 < number < 1 << 63:
        raise ValueError("bad_id")
    return number


def _number(value: object) -> int:
    """Reads an integer that is at least 0, or a string of decimal digits; otherwise 0."""
    if type(value) is int:
        return max(value, 0)
    return int(_text(r"[0-9]{1,18}", value) or 0)


def _text(pattern: str, value: object) -> str:
    """Returns a text that matches the pattern; "" for anything else."""
    return value if isinstance(value, str) and re.fullmatch(pattern, value) else ""


def _is_true(value: object) -> bool:
    return value is True or value in ("true", "t", "1", 1)


def _tag_list(tags: list[Any]) -> Tags:
    """Reads the tags of the older dialect."""
    kinds: dict[int, list[str]] = {GENERAL: [], ARTIST: [], CHARACTER: []}
    try:
        for tag in tags:
            name, category = tag["name"], int(tag["category"])
            if category in kinds and "\ufffd" not in name:
                kinds[category].append(name)
        return kinds[GENERAL], kinds[ARTIST], kinds[CHARACTER]
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ValueError("bad_tags") from None


def _tag_strings(value: dict[str, Any]) -> Tags:
    """Reads the tags of the newer dialect."""

    def tags(kind: str) -> list[str]:
        return [tag for tag in value[f"tag_string_{kind}"].split() if "\ufffd" not in tag]

    try:
        return tags("general"), tags("artist"), tags("character")
    except (AttributeError, KeyError):
        raise ValueError("bad_tags") from None
