"""Whether a collection can be used: its counts by reason, and the error where it cannot."""

import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence

import orjson

from tfds_retribooru.collect.settings import Settings

UNREADABLE = {  # reasons of posts that cannot be read, and what they mean
    "bad_json": "no JSON",
    "truncated_list": "a list breaks off; what follows is lost",
    "too_long": "a value does not end within 64 million characters: it is damaged, or all posts "
    "are in one object; write one post a line",
    "second_list": "the object has another list of posts, and this one is not read",
    "not_json": "no object of JSON up to there, and what follows is not read; tables (CSV, "
    "Parquet, SQLite), pages (XML, HTML) and archives but tar and zip (7z, rar) are not",
    "damaged_file": "a compressed file breaks off or is damaged; what follows is lost",
    "not_an_object": "not an object",
    "bad_id": "no positive number as `id`",
    "bad_rating": "no rating of Danbooru",
    "bad_tags": "no tags in a form that is known; is this metadata of posts?",
    "untyped_tags": "tags without kinds, as Gelbooru and Safebooru write them: which is the "
    "character and which the artist is not known; gallery-dl adds kinds with its option `tags`",
}
FILTERED = {  # the others that are easily taken for damage
    "rating": "not an accepted rating, see --ratings",
    "no_clothing": "no tag of the clothing vocabulary, see --vocabulary",
    "no_image": "its image is not in the folder --images",
    "unreadable_image": "its image is broken, too large or of a format that is not read",
    "no_partner": "no other post of the character in that outfit, or only variants of this one",
}
PARTS = frozenset({"bad_utf8", "bad_md5", "bad_file_ext", "bad_size"})  # the post is not dropped
_BREAKS = ("truncated_list", "too_long", "second_list", "damaged_file", "not_json")
_LOST = ("no_image", "unreadable_image")  # of those whose image was looked for, with those below
_FOUND = ("kept", "near_copy", "no_partner")
_SHOWN = 5  # reasons in the message of an error


class CollectionFailed(ValueError):
    """A collection kept nothing or next to nothing, or could not read too much.

    Attributes:
        counts: of its posts by reason, and "kept".
    """

    def __init__(self, message: str, counts: Counter[str]) -> None:
        super().__init__(message)
        self.counts = counts


def failed_list(out: pathlib.Path) -> pathlib.Path:
    """Returns where the list of what was dropped stays if no folder `out` is made."""
    return out.with_name(f"{out.name}.dropped.jsonl")


def number_read(counts: Counter[str]) -> int:
    """Returns how many posts were read: those kept and those dropped."""
    return sum(n for reason, n in counts.items() if _drops(reason))


def check(counts: Counter[str], dropped: pathlib.Path, settings: Settings) -> None:
    """Checks that enough was kept, and that little enough could not be read.

    Unreadable is the largest of three shares: of the posts; of the files that break off or hold no
    object, as nobody knows how many posts there were; of the images that were looked for.

    Args:
        counts: by reason, and "kept".
        dropped: the list of what was dropped.
        settings: of the collection.

    Raises:
        CollectionFailed: with the most frequent reasons and an example of each.
    """
    posts, kept = number_read(counts), counts["kept"]
    named = [reason for reason in counts if _drops(reason) and reason != "kept"]
    if not posts:
        message = "there is no post in the metadata"
    elif not kept:
        message = f"nothing is kept of {posts:,} posts"
    elif message := _unreadable(counts, settings):
        named = list(UNREADABLE)
    elif message := _without_image(counts, settings):
        named = list(_LOST)
    elif kept < settings.min_kept * posts:
        asked = f"--min_kept {settings.min_kept:g}"
        message = f"only {kept:,} of {posts:,} posts are kept, a smaller share than {asked} asks"
    else:
        return
    reasons = "".join(f"\n{line}" for line in _examples(counts, dropped, named))
    where = f"; all of them: {failed_list(settings.out)}" if reasons else ""
    raise CollectionFailed(f"{message}, so {settings.out} is not written{where}{reasons}", counts)


def _unreadable(counts: Counter[str], settings: Settings) -> str:
    """Returns the message that too many posts cannot be read, "" if not."""
    posts, unreadable = number_read(counts), sum(counts[reason] for reason in UNREADABLE)
    broken, files = sum(counts[reason] for reason in _BREAKS), len(settings.metadata)
    if max(unreadable / posts, broken / files) <= settings.max_unreadable:
        return ""
    return (
        f"{unreadable:,} of {posts:,} posts cannot be read, or {broken:,} of {files:,} files break "
        "off, are no JSON or hold a list that is not read: more than --max_unreadable "
        f"{settings.max_unreadable:g} allows"
    )


def _without_image(counts: Counter[str], settings: Settings) -> str:
    """Returns the message that too many images are missing or cannot be read, "" if not."""
    lost = sum(counts[reason] for reason in _LOST)
    sought = lost + sum(counts[reason] for reason in _FOUND)
    if lost <= settings.max_unreadable * sought:
        return ""
    return (
        f"{lost:,} of {sought:,} images are missing in {settings.images} or cannot be read: more "
        f"than --max_unreadable {settings.max_unreadable:g} allows (1 allows any number, where "
        "only a part of the images is there)"
    )


def line(reason: str, count: int) -> str:
    """Returns a line about the posts with one reason."""
    meaning = UNREADABLE.get(reason)
    return f"{count:>12,}  {reason}" + (f" ({meaning})" if meaning else "")


def _examples(counts: Counter[str], dropped: pathlib.Path, reasons: Sequence[str]) -> Iterator[str]:
    """Yields a line with an example for each of the most frequent of some reasons."""
    meanings = UNREADABLE | FILTERED
    named = [reason for reason, n in counts.most_common() if n and reason in reasons][:_SHOWN]
    first = dict[str, dict]()
    with open(dropped, "rb") as file:
        for row in map(orjson.loads, file):
            if row["reason"] in named and row["reason"] not in first:
                first[row["reason"]] = row
            if len(first) == len(named):
                break
    for reason in named:
        meaning = f" ({meanings[reason]})" if reason in meanings else ""
        row = first[reason]
        post = f"post {row['id']}, " if row["id"] else ""
        place = f"{post}{row['file']}, line {row['line']}"
        yield f"{counts[reason]:>12,}  {reason}{meaning}, such as {place}"


def _drops(reason: str) -> bool:
    return reason not in PARTS and not reason.startswith("unknown_key")
