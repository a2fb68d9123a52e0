"""Metadata of Danbooru and of what resembles it, as posts of one kind.

Which dialect a post is in is told by what is there:

- `tag_string_KIND`: Danbooru since about 2018. Ratings are letters; "s" means sensitive, but safe
  where `is_rating_locked` is there, which went before "s" changed its meaning.
- `tags_KIND`, texts or lists: gallery-dl's of other sites; "s" means safe.
- `tag_info`, a list of {tag, type}: Rule34; "s" means safe. So are posts of yande.re and other
  sites of Moebooru where the answer has a table of kinds (`json_values.kinds`).
- `tags` as a list of {name, category}: dumps until 2021; "s" means safe. Ids and sizes are strings.
  So are Sankaku's {name, type} and Szurubooru's {names, category}, whose rating is `safety`.
- `tags` as an object of lists: e621; "s" means safe.

The first of these that is there is read. Ratings may be words in each of them. Where tags have no
kinds (Gelbooru, Safebooru), nobody can say who is artist and who is character: untyped_tags.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tfds_retribooru.building.records import Fault
from tfds_retribooru.json_values import Document

WORDS = ("general", "safe", "sensitive", "questionable", "explicit")
RATINGS_2021 = {"s": "safe", "q": "questionable", "e": "explicit"} | {w: w for w in WORDS}
RATINGS_2021 |= {"sketchy": "questionable", "unsafe": "explicit"}  # of Szurubooru
RATINGS = RATINGS_2021 | {"g": "general", "s": "sensitive"}
RATINGS_ELSEWHERE = RATINGS_2021 | {"g": "general"}
GENERAL, ARTIST, CHARACTER = 0, 1, 4  # categories of the dumps until 2021
CATEGORIES = {"general": GENERAL, "tag": GENERAL, "default": GENERAL, "artist": ARTIST}
CATEGORIES |= {"character": CHARACTER, "copyright": 3, "meta": 5, "metadata": 5}
CATEGORIES |= dict.fromkeys(("circle", "faults", "style"), 5)  # of Moebooru
NO_ARTISTS = frozenset(  # what sites say of a post by tags of the kind "artist"
    "banned_artist conditional_dnp avoid_posting unknown_artist unknown_artist_signature "
    "anonymous_artist sound_warning epilepsy_warning jumpscare_warning".split()
)
KINDS = ("general", "artist", "character")
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
    "is_favorited children_ids parent children uploader_name "
    # gallery-dl's
    "tags_general tags_artist tags_character tags_copyright tags_meta tags_metadata date filename "
    "extension category subcategory search_tags uploader "
    # of e621, Gelbooru, Safebooru, Moebooru
    "width height image hash file flags preview sample sources change change_seq locked_tags "
    "relationships description comment_count has_notes duration directory owner creator_id "
    "sample_url sample_height sample_width preview_url preview_height preview_width status title "
    "has_comments post_locked tag_info author is_shown_in_index actual_preview_width jpeg_url "
    "actual_preview_height sample_file_size jpeg_width jpeg_height jpeg_file_size is_held frames "
    "frames_string frames_pending frames_pending_string "
    # of Szurubooru
    "safety checksum checksumMD5 canvasWidth canvasHeight contentUrl thumbnailUrl mimeType type "
    "version creationTime lastEditTime relations notes user tagCount favoriteCount commentCount "
    "noteCount featureCount relationCount lastFeatureTime favoritedBy ownScore ownFavorite "
    "comments hasCustomThumbnail".split()
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
        relatives: ids of its parent and its children, as far as it names them.
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
    relatives: tuple[int, ...] = ()


def posts(documents: Iterable[Document]) -> Iterator[tuple[int, Post] | Fault]:
    """Yields (line, post), and a fault for each document or part of one that cannot be used.

    Faults that drop the post: bad_json, truncated_list, too_long, damaged_file and not_json (and
    all that follows), second_list, not_an_object, bad_id, bad_rating, bad_tags, untyped_tags.
    Faults that drop a field: bad_utf8 (the tags that hold it), bad_md5, bad_file_ext, bad_size. An
    unknown key drops nothing and is named once (unknown_key KEY).
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
    """Reads a post of any dialect.

    Raises:
        ValueError: it has no usable id, rating or tags; the message is the reason.
    """
    general, artists, characters = _tags(value)
    word = _first(value, "rating", "safety")
    if "is_rating_locked" in value or not _has_kinds(value):
        ratings = RATINGS_2021
    else:
        ratings = RATINGS if _has_strings(value) else RATINGS_ELSEWHERE
    rating = ratings.get(word.strip().lower()) if isinstance(word, str) else None
    if rating is None:
        raise ValueError("bad_rating")
    file, flags = _object(value.get("file")), _object(value.get("flags"))
    width = _number(_first(value, "image_width", "width", "canvasWidth") or file.get("width"))
    height = _number(_first(value, "image_height", "height", "canvasHeight") or file.get("height"))
    gone = value.get("is_deleted"), value.get("is_banned"), flags.get("deleted")
    return Post(
        id=_id(value.get("id")),
        rating=rating,
        gone=any(map(_is_true, gone)) or value.get("status") == "deleted",
        md5=_text(r"[0-9a-fA-F]{32}", _md5(value)).lower(),
        file_ext=_text(r"[0-9a-zA-Z]{1,5}", _file_ext(value)).lower(),
        width=width if width and height else 0,
        height=height if width and height else 0,
        general=general,
        artists=[name for name in artists if name.lower() not in NO_ARTISTS],
        characters=characters,
        relatives=_relatives(value),
    )


def _unreadable_fields(value: dict[str, Any], post: Post) -> Iterator[str]:
    """Yields the reasons of the fields that are there but could not be read."""
    if not post.md5 and _md5(value):
        yield "bad_md5"
    if not post.file_ext and _file_ext(value):
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
    """Reads an integer that is at least 0, also as 3.0 or in decimal digits; otherwise 0."""
    if type(value) is int or (isinstance(value, float) and value.is_integer()):
        return max(int(value), 0)
    return int(_text(r"[0-9]{1,18}", value) or 0)


def _text(pattern: str, value: object) -> str:
    """Returns a text that matches the pattern; "" for anything else."""
    return value if isinstance(value, str) and re.fullmatch(pattern, value) else ""


def _relatives(value: dict[str, Any]) -> tuple[int, ...]:
    """Reads the ids of parent and children, also in posts; 0 and what is no id stand for none."""
    found: list[Any] = []
    for place in (value, _object(value.get("relationships"))):
        keys = ("parent_id", "parent", "children", "children_ids")
        for given in filter(None, map(place.get, keys)):
            given = given.replace(",", " ").split() if isinstance(given, str) else given
            found += given if isinstance(given, list) else [given]
    ids = (post.get("id") if isinstance(post, dict) else post for post in found)
    return tuple(dict.fromkeys(number for number in map(_number, ids) if number))


def _is_true(value: object) -> bool:
    word = value.strip().lower() if isinstance(value, str) else value
    return word is True or word in ("true", "t", "yes", "1", 1)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(value: dict[str, Any], *keys: str) -> Any:
    return next((value[key] for key in keys if value.get(key)), None)


def _md5(value: dict[str, Any]) -> Any:
    given = value.get("md5") or value.get("checksumMD5") or _object(value.get("file")).get("md5")
    return given or _text(r"[0-9a-fA-F]{32}", value.get("hash"))


def _file_ext(value: dict[str, Any]) -> Any:
    """Returns the ending of the image's file, as it or the file's name says."""
    said = _first(value, "file_ext", "extension") or _object(value.get("file")).get("ext")
    name = _first(value, "image", "file_url", "contentUrl") or _object(value.get("file")).get("url")
    if said or not isinstance(name, str):
        return said
    found = re.search(r"\.(\w+)(?:[?#].*)?$", name)
    return found[1] if found else None


def _has_kinds(value: dict[str, Any]) -> bool:
    """Returns whether the tags stand in tag_string_KIND or tags_KIND."""
    return _has_strings(value) or any(f"tags_{kind}" in value for kind in KINDS)


def _has_strings(value: dict[str, Any]) -> bool:
    """Returns whether the tags stand in tag_string_KIND, as Danbooru writes them."""
    return any(f"tag_string_{kind}" in value for kind in KINDS)


def _tags(value: dict[str, Any]) -> Tags:
    """Reads the tags of any dialect.

    Raises:
        ValueError: bad_tags, or untyped_tags where their kinds are not known.
    """
    tags = value.get("tags")
    try:
        if _has_strings(value):
            given = [value[f"tag_string_{kind}"] for kind in KINDS]
            nobody = [text is None or text != text for text in given]  # in tables; NaN is not NaN
            artists, characters = ([] if nobody[k] else _words(given[k]) for k in (1, 2))
            general = _words(given[0])
        elif _has_kinds(value) and not ("tags_general" not in value and isinstance(tags, dict)):
            given = (value.get(f"tags_{kind}", []) for kind in KINDS)
            general, artists, characters = map(_words, given)
        elif isinstance(tags, dict):
            general, artists, characters = (_words(tags[kind]) for kind in KINDS)
        elif isinstance(value.get("tag_info"), list):
            return _tag_list(value["tag_info"])
        elif isinstance(tags, list) and not any(isinstance(tag, str) for tag in tags):
            return _tag_list(tags)
        elif isinstance(tags, list | str) or isinstance(value.get("tag_string"), str):
            raise ValueError("untyped_tags")
        else:
            raise KeyError("tags")
    except (TypeError, KeyError):
        raise ValueError("bad_tags") from None
    return general, artists, characters


def _tag_list(tags: list[Any]) -> Tags:
    """Reads tags that are objects with their category, as in the dumps until 2021."""
    kinds: dict[int, list[str]] = {GENERAL: [], ARTIST: [], CHARACTER: []}
    is_known = not tags
    try:
        for tag in tags:
            name = _first(tag, "name", "tag") or tag["names"][0]
            category = tag["category"] if "category" in tag else tag["type"]
            is_word = isinstance(category, str) and not category.strip().isdecimal()
            category = CATEGORIES.get(category) if is_word else int(category)
            is_known |= category is not None  # as "species" is not, a word of a site's own
            if category in kinds and "\ufffd" not in name:
                kinds[category].append(name)
        if not is_known:
            raise ValueError
        return kinds[GENERAL], kinds[ARTIST], kinds[CHARACTER]
    except (TypeError, KeyError, ValueError, OverflowError, AttributeError, IndexError):
        raise ValueError("bad_tags") from None


def _words(value: object) -> list[str]:
    """Reads tags, a text or a list of texts.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise TypeError
    return [tag for tag in value if "\ufffd" not in tag]
