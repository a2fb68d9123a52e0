"""Which posts become candidates: one character, one artist, tagged clothes, an image of one person.

`screen` decides from one post; duplicates and partners are found among all candidates.
"""

import dataclasses
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from tfds_retribooru import json_stream, tag_text, text_files
from tfds_retribooru.collect.danbooru import Post
from tfds_retribooru.formats import EXTENSIONS, UNUSUAL

VOCABULARY = pathlib.Path(__file__).parent / "clothing.txt"
RATINGS = ("general", "safe")
SEVERAL_VIEWS = frozenset({"multiple views", "comic", "4koma"})  # may show several outfits

# Why a post is no candidate, in the order of the checks: a post has the first that applies.
REASONS = (
    "gone",
    "rating",
    "not_a_picture",
    "not_solo",
    "no_character",
    "several_characters",
    "no_artist",
    "several_artists",
    "no_clothing",
)

# Why a candidate is dropped, found by comparing candidates or from their images.
KEPT = ""
DUPLICATE_ID = "duplicate_id"
DUPLICATE_FILE = "duplicate_file"
NO_IMAGE = "no_image"
UNREADABLE_IMAGE = "unreadable_image"
NEAR_COPY = "near_copy"
NO_PARTNER = "no_partner"
CANDIDATE_REASONS = (
    KEPT,
    DUPLICATE_ID,
    DUPLICATE_FILE,
    NO_IMAGE,
    UNREADABLE_IMAGE,
    NEAR_COPY,
    NO_PARTNER,
)


class Candidate(NamedTuple):
    """A post that may be collected.

    Attributes:
        id, md5, file_ext, width, height: as in Post.
        character, artist: one tag each, with underscores.
        cloths: clothing tags, with spaces, in the order of the metadata.
        prompts: all general tags, with underscores.
    """

    id: int
    md5: str
    file_ext: str
    width: int
    height: int
    character: str
    artist: str
    cloths: list[str]
    prompts: list[str]


@dataclasses.dataclass(frozen=True)
class Criteria:
    """Which posts become candidates.

    Attributes:
        vocabulary: clothing tags, with spaces.
        ratings: accepted, as `Post.rating` names them.
        aliases: tag -> the tag that replaces it.
        implications: tag -> tags that it implies. A character tag that implies another one (a
            costume of the character) counts as that other.
    """

    vocabulary: frozenset[str]
    ratings: frozenset[str] = frozenset(RATINGS)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    implications: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def screen(post: Post, criteria: Criteria) -> Candidate | str:
    """Returns the candidate, or the reason (one of REASONS) why the post is dropped."""
    if post.gone:
        return "gone"
    if post.rating not in criteria.ratings:
        return "rating"
    if post.file_ext not in ("", *EXTENSIONS, *UNUSUAL):
        return "not_a_picture"
    tags = _replaced(post.general, criteria.aliases)
    if not any(tag.lower() == "solo" for tag in tags):  # most posts end here
        return "not_solo"
    spaced = [tag_text.normal(tag) for tag in tags]
    if not SEVERAL_VIEWS.isdisjoint(spaced):
        return "not_solo"
    named = [_as_tag(name) for name in post.characters]
    characters = _characters(_replaced(named, criteria.aliases), criteria.implications)
    if len(characters) != 1:
        return "several_characters" if characters else "no_character"
    artists = _replaced(post.artists, criteria.aliases)
    if len(artists) != 1:
        return "several_artists" if artists else "no_artist"
    cloths = [tag for tag in spaced if tag in criteria.vocabulary]
    if not cloths:
        return "no_clothing"
    return Candidate(
        id=post.id,
        md5=post.md5,
        file_ext=post.file_ext,
        width=post.width,
        height=post.height,
        character=characters[0],
        artist=artists[0],
        cloths=cloths,
        prompts=tags,
    )


def read_vocabulary(path: str | pathlib.Path = VOCABULARY) -> frozenset[str]:
    """Reads clothing tags, one a line in any spelling (see `tag_text`); "#" begins a comment.

    Raises:
        ValueError: there is none, or the encoding is not Unicode's.
    """
    try:
        lines = text_files.read_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    tags = {tag_text.normal(line.partition("#")[0]) for line in lines} - {""}
    if not tags:
        raise ValueError(f"{path}: no clothing tag; write one a line, such as `pleated skirt`")
    return frozenset(tags)


def read_aliases(path: str | pathlib.Path) -> dict[str, str]:
    """Reads Danbooru's `tag_aliases` table as `read_table` does; follows chains to their end."""
    table = {old: new for old, new in read_table(path) if old != new}
    return {old: _end(old, table) for old in table}


def read_implications(path: str | pathlib.Path) -> dict[str, tuple[str, ...]]:
    """Reads Danbooru's `tag_implications` table as `read_table` does."""
    table: dict[str, tuple[str, ...]] = {}
    for tag, implied in read_table(path):
        table[tag] = (*table.get(tag, ()), implied)
    return table


def read_table(path: str | pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields (antecedent_name, consequent_name) of the active rows of a list or of JSON lines.

    Raises:
        ValueError: a row cannot be read; a table with a hole would change what is collected.
    """
    with text_files.open_binary(path) as stream:
        for line, row, fault in json_stream.read(stream):
            row = row if isinstance(row, dict) else {}
            old, new = row.get("antecedent_name"), row.get("consequent_name")
            if fault or not isinstance(old, str) or not isinstance(new, str):
                raise ValueError(
                    f"{path}, line {line}: {fault or 'no antecedent_name and consequent_name'}; "
                    "give a table as Danbooru exports it"
                )
            if row.get("status", "active") == "active":
                yield old, new


def _end(tag: str, table: Mapping[str, str]) -> str:
    """Follows a chain of replacements to its end; a circle ends before it closes."""
    seen = {tag}
    while tag in table and table[tag] not in seen:
        tag = table[tag]
        seen.add(tag)
    return tag


def _as_tag(name: str) -> str:
    """Returns a character as Danbooru writes it: other sites have capitals and spaces."""
    return tag_text.name(name).replace(" ", "_") or name


def _replaced(tags: list[str], aliases: Mapping[str, str]) -> list[str]:
    """Returns the tags after aliases, each once, in order."""
    return list(dict.fromkeys(aliases.get(tag, tag) for tag in tags))


def _characters(tags: Collection[str], implications: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Returns who the tags name: each is replaced by what it implies, as far as that goes."""
    found: dict[str, None] = {}
    todo, seen = list(tags), set(tags)
    while todo:
        tag = todo.pop()
        implied = [name for name in implications.get(tag, ()) if name != tag]
        if not implied:
            found[tag] = None
        todo += [name for name in implied if name not in seen]
        seen.update(implied)
    return list(found)
