"""`vocabulary.json`: which tags name the outfit, which the identity, which neither.

It holds {"tags": {tag: {"attribute", "answer", "kind"}}, "questions": {attribute: text}}. The keys
are the tags as the prompts spell them. Real data has no questions, because nobody knows what the
answers should be; the kind of its tags is what `tag_kinds` says, and the file also holds what that
needs: {"records": the arguments of `build`, "kinds": digest of the lists of kinds}.
"""

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.utils import incomplete_file

from tfds_retribooru import array_record, tag_kinds, tag_text

NAME = "vocabulary.json"
_REPEATS = re.compile(r"^\d+ (?=.*[^\W\d])")  # before kohya's names of folders: 10_sendai


Vocabulary = dict[str, Any]


def read(directory: epath.PathLike) -> Vocabulary:
    """Reads the vocabulary beside the records of a built data set.

    Raises:
        FileNotFoundError: there is none; the data set was not built with this package.
    """
    path = epath.Path(directory) / NAME
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: build the data set again with `tfds_retribooru` imported"
        )
    return json.loads(path.read_text())


def write(directory: epath.PathLike, make: Callable[[], Vocabulary]) -> None:
    """Writes what `make` returns beside the records, if there is no vocabulary yet."""
    path = epath.Path(directory) / NAME
    if not path.exists():
        _write(path, make())


def update(builder: tfds.core.DatasetBuilder, own: str) -> None:
    """Writes the vocabulary of real data anew, where the lists of kinds are not those it has.

    Args:
        builder: of a built data set.
        own: content of the user's file of kinds, "" without one.

    Raises:
        ValueError: see `tag_kinds.parse`.
    """
    path = epath.Path(builder.data_path) / NAME
    found = read(builder.data_path)
    if found.get("kinds") == tag_kinds.digest(own):
        return
    if "records" in found:
        made = build(found["tags"], **found["records"], own=own)
    else:  # of an older version
        made = from_records(builder, own)
    changed = sum(entry != found["tags"].get(tag) for tag, entry in made["tags"].items())
    try:
        _write(path, made)
    except OSError as error:
        warnings.warn(
            f"{path} cannot be written ({error.strerror}): {changed} tags keep the kinds that they "
            "had when the data set was built.",
            stacklevel=2,
        )
        return
    print(f"{path}: the kinds of {changed:,} tags are new.", flush=True)


def from_records(builder: tfds.core.DatasetBuilder, own: str = "") -> Vocabulary:
    """Returns the vocabulary of all records of a built data set; `own` is as of `update`."""
    uses, own_uses = Counter(), Counter()  # of a tag; where it is a bare name of the character
    cloths, characters = set(), set()
    for split in builder.info.splits:
        for record in array_record.Part(builder, split, ("prompts", "cloths", "character")):
            character = record["character"].decode()
            tags = {tag.strip() for tag in record["prompts"].decode().split(",")}
            uses.update(tags)
            names = _short_names(character)
            own_uses.update(tag for tag in tags if tag_text.normal(tag) in names)
            cloths.update(tag.decode() for tag in record["cloths"])
            characters.add(character)
    # "sendai" names sendai_(kantai_collection), but "rain" seldom rain_(somewhere)
    short = (tag for tag, count in own_uses.items() if 2 * count >= uses[tag])
    return build(uses, cloths, characters, short_names=map(tag_text.normal, short), own=own)


def build(
    prompts: Iterable[str],
    cloths: Iterable[str],
    characters: Iterable[str],
    *,
    short_names: Iterable[str] | None = None,
    own: str = "",
) -> Vocabulary:
    """Returns the vocabulary of all tags of all records.

    Args:
        prompts: comma-joined tags of each record.
        cloths: clothing tags.
        characters: names.
        short_names: names without their qualifier that as tags mean the character; None = all.
        own: content of the user's file of kinds, "" without one.

    Raises:
        ValueError: see `tag_kinds.parse`.
    """
    cloths, characters = sorted(set(cloths)), sorted(set(characters))
    short_names = sorted(
        set(map(tag_text.bare, characters) if short_names is None else short_names)
    )
    kinds = tag_kinds.Kinds(cloths, [*characters, *short_names], own)
    tags = {tag.strip() for prompt in prompts for tag in prompt.split(",")} - {""}
    return {
        "tags": {tag: _entry(tag, kinds.of(tag)) for tag in sorted(tags)},
        "questions": {},
        "records": {"cloths": cloths, "characters": characters, "short_names": short_names},
        "kinds": tag_kinds.digest(own),
    }


def _short_names(character: str) -> set[str]:
    """Returns the tags that may mean a character, in the normal form."""
    bare = tag_text.bare(character)
    name = _REPEATS.sub("", bare)
    words = name.split() if name != bare else []
    is_of_class = len(words) > 1 and words[-1] in tag_kinds.CLASSES
    return {bare, name, *(words[:1] if is_of_class else [])}


def _entry(tag: str, kind: str) -> dict[str, str]:
    words = tag_text.normal(tag)
    return {"attribute": words, "answer": words, "kind": kind}


def _write(path: epath.Path, vocabulary: Vocabulary) -> None:
    with incomplete_file(path) as partial:
        partial.write_text(json.dumps(vocabulary, indent=1))
