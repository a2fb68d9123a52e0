"""What a JSON value holds: documents in lists and wrappers, and text that is no UTF-8.

The list in a wrapper ({"posts": [...]}, {"rows": [{"row": {...}}]}); the values of an object whose
keys are ids; what `gallery-dl --dump-json` says of files; the kinds of all tags of an answer.
"""

import json
import re
from typing import Any, NamedTuple

WRAPPERS = tuple(
    "posts post results items data annotations images records entries documents response rows row "
    "hits _source".split()
)
_OF_POSTS = frozenset(
    {"tags", "tag_string", "tag_string_general", "character", "characters", "rating"}
)
_HALVES = re.compile("[\ud800-\udfff]")  # of a surrogate pair, alone: no characters
_MAY_HOLD_HALVES = re.compile(r"\\u[dD][89a-fA-F]")


class Document(NamedTuple):
    """One document, or what is wrong at that place.

    Attributes:
        line: from 1, where it begins.
        value: what JSON says; the beginning of the text where it cannot be read.
        fault: "" or a reason: "bad_json" (one document), "truncated_list" (a list breaks off),
            "too_long" (a value does not end within what is read at once, and what follows is not
            read), "second_list" (another list in the object, named here, is not read),
            "damaged_file" (the compressed file breaks off), "not_json" (there is no object up to
            here, and what follows is not read), "bad_utf8" (read all the same, with U+FFFD for
            what is not UTF-8).
    """

    line: int
    value: object
    fault: str = ""


def unwrapped(line: int, value: object, fault: str) -> list[Document]:
    """Returns the documents in a list, a wrapper or an object by ids, or the value itself."""
    held = _in_wrapper(value)
    if not isinstance(held, list):
        return [Document(line, value, fault)]
    elements = [held] if of_element(held) != [held] else held
    table = kinds(value)
    found = [with_kinds(v, table) for element in elements for v in of_element(element)]
    documents = [Document(line, v, fault if fault and "\ufffd" in str(v) else "") for v in found]
    members = value.items() if isinstance(value, dict) else ()
    others = (key for key, v in members if v is not held and is_another_list(key, v))
    return documents + [Document(line, key, "second_list") for key in others]


def has_several_lists(value: object) -> bool:
    """Returns whether an object has more than one list that could be the one it stands for."""
    found = value if isinstance(value, dict) else {}
    return sum(isinstance(found.get(key), list) for key in WRAPPERS) > 1


def is_another_list(key: object, value: object) -> bool:
    """Returns whether a member of a wrapper is a list of posts, too, which nobody reads."""
    return key in WRAPPERS and isinstance(value, list) and any(map(_is_post, value))


def _in_wrapper(value: object) -> object:
    """Returns the list that an object stands for, or the value itself."""
    if not isinstance(value, dict) or not value:
        return value
    if "id" in value:  # a pool, which has an id of its own
        lists = (value[key] for key in WRAPPERS if _are_posts(value.get(key)))
        return value if _is_post(value) else next(lists, value)
    if not value.keys() & set(WRAPPERS) and (keyed := _by_key(value)):
        return keyed
    lists = (value[key] for key in WRAPPERS if isinstance(value.get(key), list | dict))
    held = next(lists, [] if "@attributes" in value else _only_list(value))
    if held is value or isinstance(held, list):
        return held
    inner = _in_wrapper(held)  # {"data": {"posts": [...]}}
    return inner if isinstance(inner, list) else [held]


def _by_key(value: dict[str, Any]) -> list[object]:
    """Returns the records of an object that has them by id, MD5, file, tag or page; [] if not."""
    if all(isinstance(v, dict) and ("id" in v or _is_post(v)) for v in value.values()):
        return [{"id": key} | held for key, held in value.items()]
    found = [held if isinstance(held, list) else _in_wrapper(held) for held in value.values()]
    pages = [page for page in found if isinstance(page, list) and _are_posts(page)]
    is_all = len(pages) == len(value) > 1
    return [record for page in pages for record in page] if is_all else []


def _only_list(value: dict[str, Any]) -> object:
    """Returns the list of records in an object with one such list, or the object itself.

    Of several, it is that of posts.
    """
    found = [
        held
        for key, held in value.items()
        if isinstance(held, list) and held and not key.startswith("tag")
        if all(_is_record(inner) for inner in held)
    ]
    found = found if len(found) == 1 else [held for held in found if _are_posts(held)]
    return found[0] if len(found) == 1 else value


def _is_post(value: object) -> bool:
    """Returns whether a value is an object with tags, a character or a rating."""
    return isinstance(value, dict) and not value.keys().isdisjoint(_OF_POSTS)


def _are_posts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_post, value))


def _is_record(value: object) -> bool:
    """Returns whether a value is an object with an id, tags or a character."""
    return isinstance(value, dict) and any(k.startswith(("id", "tag", "character")) for k in value)


def of_element(value: object) -> list[object]:
    """Returns the value, or the records in it: of an element of a list.

    In a list or a wrapper (pages that `jq --slurp` joined); in a message of `gallery-dl
    --dump-json`: [2, metadata of a folder], which a file's repeats, or [3, address, metadata]; in a
    row of Hugging Face's or Elasticsearch's answers.
    """
    table: dict[str, str] = {}
    if isinstance(value, dict) and "id" not in value:
        record = value.get("row", value.get("_source"))
        if isinstance(record, dict):
            return [record]
        held, table = _in_wrapper(value), kinds(value)
    else:
        held = value if value and isinstance(value, list) else None
    if isinstance(held, list) and all(map(_holds_records, held)):
        return [with_kinds(record, table) for inner in held for record in of_element(inner)]
    match value:
        case [2, dict()]:
            return []
        case [3, str(), dict(metadata)]:
            return [metadata]
    return [value]


def _holds_records(value: object) -> bool:
    return isinstance(value, dict) and (_is_record(value) or of_element(value) != [value])


def kinds(value: object) -> dict[str, str]:
    """Returns tag -> kind of a wrapper that says them: of yande.re and other sites of Moebooru.

    {"posts": [{"tags": "smile sendai"}], "tags": {"smile": "general", "sendai": "character"}}
    """
    table = value.get("tags") if isinstance(value, dict) and "id" not in value else None
    is_table = isinstance(table, dict) and all(isinstance(kind, str) for kind in table.values())
    return table if isinstance(table, dict) and is_table else {}


def with_kinds(record: object, table: dict[str, str]) -> object:
    """Returns a post with the kinds of its tags as Rule34 gives them, if the table has them all."""
    tags = record.get("tags") if table and isinstance(record, dict) else None
    names = tags.split() if isinstance(tags, str) else []
    if not isinstance(record, dict) or not names or not table.keys() >= set(names):
        return record
    return record | {"tag_info": [{"tag": name, "type": table[name]} for name in names]}


def readable(text: str) -> tuple[str, str]:
    """Returns the text with U+FFFD for what is not UTF-8, and "bad_utf8" if there is any."""
    if text.isascii():
        return text, ""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return readable, "bad_utf8" if "\ufffd" in readable else ""


def without_halves(value: object, text: str) -> tuple[object, str]:
    r"""Returns a value with U+FFFD for halves of surrogate pairs, and "bad_utf8" if there are any.

    They are no characters, and stand in JSON as escapes (`\ud83d`), where something cut a text.

    Args:
        value: that `json` read.
        text: from which.
    """
    if not _MAY_HOLD_HALVES.search(text):
        return value, ""
    try:
        held = json.dumps(value, ensure_ascii=False)
    except RecursionError:  # as deep as can just be read
        return None, "bad_utf8"
    whole = _HALVES.sub("\ufffd", held)
    return (value, "") if whole == held else (json.loads(whole), "bad_utf8")
