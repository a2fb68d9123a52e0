"""`vocabulary.json`: which tags name the outfit, which the identity, which neither.

It holds {"tags": {tag: {"attribute", "answer", "kind"}}, "questions": {attribute: text}}. The keys
are the tags as the prompts spell them. Real data has no questions, because nobody knows what the
answers should be. The kind of its tags is, in this order:

* "outfit": the tag is a clothing tag (`cloths`) of some record; underscores count as spaces;
* "identity": its last word is one of IDENTITY ("blue hair", "cat ears"), unless it is one of
  TEMPORARY ("closed eyes"), or it is the name of a character;
* "free": any other tag; the prompt decides about it.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.utils import incomplete_file

from tfds_retribooru import array_record

IDENTITY = frozenset(
    "hair eyes ears tail horns horn skin bangs braid braids twintails ponytail ahoge fang "
    "heterochromia freckles beard mustache mole".split()
)
TEMPORARY = frozenset(
    f"{word} {part}"
    for part, words in {
        "eyes": "closed half-closed crossed rolling covering narrowed wide empty crazy glowing",
        "hair": "floating wet messy playing_with adjusting holding hand_in brushing",
        "ears": "covering",
        "skin": "wet shiny",
    }.items()
    for word in words.replace("_", " ").split()
) | {"playing with hair", "playing with own hair", "adjusting hair", "hand in own hair"}

NAME = "vocabulary.json"


Vocabulary = dict[str, dict[str, Any]]


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
        with incomplete_file(path) as partial:
            partial.write_text(json.dumps(make(), indent=1))


def from_records(builder: tfds.core.DatasetBuilder) -> Vocabulary:
    """Returns the vocabulary of all records of a built data set."""
    prompts, cloths, characters = set(), set(), set()
    for split in builder.info.splits:
        for record in array_record.Part(builder, split, ("prompts", "cloths", "character")):
            prompts.update(tag.strip() for tag in record["prompts"].decode().split(","))
            cloths.update(tag.decode() for tag in record["cloths"])
            characters.add(record["character"].decode())
    return build(prompts, cloths, characters)


def build(prompts: Iterable[str], cloths: Iterable[str], characters: Iterable[str]) -> Vocabulary:
    """Returns the vocabulary of all tags of all records.

    Args:
        prompts: comma-joined tags of each record.
        cloths: clothing tags.
        characters: names.
    """
    outfit, names = ({_words(tag) for tag in tags} for tags in (cloths, characters))
    tags = {tag.strip() for prompt in prompts for tag in prompt.split(",")} - {""}
    return {"tags": {tag: _entry(tag, outfit, names) for tag in sorted(tags)}, "questions": {}}


def _entry(tag: str, outfit: set[str], names: set[str]) -> dict[str, str]:
    words = _words(tag)
    last = words.rpartition(" ")[2]
    kind = "free"
    if words in outfit:
        kind = "outfit"
    elif words in names or (last in IDENTITY and words not in TEMPORARY):
        kind = "identity"
    return {"attribute": words if kind != "identity" else last, "answer": words, "kind": kind}


def _words(tag: str) -> str:
    return tag.strip().lower().replace("_", " ")
