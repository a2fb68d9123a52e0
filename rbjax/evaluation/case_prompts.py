"""The prompts of an evaluation's cases, and what tags say of attributes."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rbjax.text.concepts import carried_kinds
from rbjax.text.prompts import free_tags
from rbjax.vqa.tag_questions import YES
from tfds_retribooru import tag_text

FIRST_TAG = "solo"  # of every prompt

Vocabulary = Mapping[str, Any]
Prompt = tuple[str, ...]


def tag_answers(
    tags: Sequence[str], vocabulary: Vocabulary, kinds: Sequence[str]
) -> dict[str, str]:
    """Returns {attribute: answer} of the tags whose attribute is of one of the kinds."""
    known = (vocabulary["tags"][tag] for tag in tags if tag in vocabulary["tags"])
    return {entry["attribute"]: entry["answer"] for entry in known if entry["kind"] in kinds}


def yes_only(vocabulary: Vocabulary) -> frozenset[str]:
    """Returns the attributes to which tags answer nothing but yes; without such a tag it is no."""
    answers: dict[str, set[str]] = {}
    for entry in vocabulary["tags"].values():
        answers.setdefault(entry["attribute"], set()).add(entry["answer"])
    return frozenset(name for name, found in answers.items() if found == {YES})


def recorded(
    sources: Sequence[Sequence[str]],
    concepts: Iterable[int],
    vocabulary: Vocabulary,
    *,
    count: int,
) -> list[Prompt]:
    """Returns `count` recorded prompts, without the tags that name what a reference carries.

    Args:
        sources: the tags of images, whose prompts they are, in turn.
        concepts: of the references.
        vocabulary: of the data set.
        count: how many.
    """
    free = [free_tags(source, vocabulary, carried_kinds(concepts)) for source in sources]
    return [
        (FIRST_TAG, *(tag for tag in free[number % len(free)] if tag_text.normal(tag) != FIRST_TAG))
        for number in range(count)
    ]


def drawn(
    reference_tags: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    count: int,
) -> list[Prompt]:
    """Draws `count` prompts; a value comes again only when all others were used."""
    choices = _possible_tags(reference_tags, vocabulary)
    orders = [rng.permutation(np.array(tags, dtype=object)) for tags in choices]
    return [
        (FIRST_TAG, *(str(order[number % len(order)]) for order in orders))
        for number in range(count)
    ]


def could_be_drawn(
    prompt: Prompt, reference_tags: Sequence[Sequence[str]], vocabulary: Vocabulary
) -> bool:
    """Returns whether `drawn` might give a prompt for references with these tags."""
    possible = itertools.chain.from_iterable(_possible_tags(reference_tags, vocabulary))
    return set(prompt[1:]) <= set(possible)


def _possible_tags(
    reference_tags: Sequence[Sequence[str]], vocabulary: Vocabulary
) -> list[list[str]]:
    """Returns, of each attribute that a prompt may name, the tags that no reference has."""
    values = [tag_answers(tags, vocabulary, ("free",)) for tags in reference_tags]
    colours = {
        answer
        for tags in reference_tags
        for name, answer in tag_answers(tags, vocabulary, ("identity", "outfit")).items()
        if name.endswith("_color")
    }
    choices: dict[str, list[str]] = {}
    for tag, entry in vocabulary["tags"].items():
        name, answer = entry["attribute"], entry["answer"]
        if entry["kind"] != "free" or any(value.get(name, answer) == answer for value in values):
            continue
        if name != "background" or answer not in colours:
            choices.setdefault(name, []).append(tag)
    return list(choices.values())
