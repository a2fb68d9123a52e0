"""Tags of a prompt: what a model knows of them, what its references decide, and what is missing."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow_datasets as tfds
import tokenizers

from rbjax.interop.saved_model import Model
from rbjax.text.concepts import CARRIED, CONCEPTS
from rbjax.text.prompts import spelled, split_tags
from rbjax.text.tokenizer import UNKNOWN, unknown_words
from tfds_retribooru import tag_text
from tfds_retribooru import vocabulary as vocabulary_lib
from tfds_retribooru.avatars import attributes

SUGGESTIONS = 8
SPECIAL = "["  # first letter of the word tokenizer's special tokens

Vocabulary = Mapping[str, Any]  # of a data set, see tfds_retribooru/vocabulary.py


def vocabulary_of(model: Model) -> Vocabulary:
    """Returns the tags that a model knows, with the questions that can be asked about them.

    That of a training is its data set's, where this machine has it. A saved model holds words
    only. One that knows all words of `avatars` gets that data set's tags
    and questions; of others each word is a tag of which nothing more is known, and a tokenizer of
    pieces of words (CLIP's) gives none.
    """
    config, words = model.config, model.tokenizer.get_vocab()
    if config.data.get("dataset"):
        builder = tfds.builder(config.data.dataset, data_dir=config.get("data_dir") or None)
        if (builder.data_path / vocabulary_lib.NAME).exists():
            return vocabulary_lib.read(builder.data_path)
    avatars = attributes.vocabulary()
    if UNKNOWN not in words:
        return {"tags": {}, "questions": {}}
    if all(word in words for tag in avatars["tags"] for word in tag.split()):
        return avatars
    known = sorted(word for word in words if not word.startswith(SPECIAL))
    tags = {word: {"attribute": word, "answer": word, "kind": "free"} for word in known}
    return {"tags": tags, "questions": {}}


def forms_of(vocabulary: Vocabulary) -> dict[str, str]:
    """Returns each tag with the form in which it is compared: `red_hair` with `red hair`."""
    return {tag: tag_text.normal(tag) for tag in vocabulary["tags"]}


def complete(prompt: str, forms: Mapping[str, str], limit: int = SUGGESTIONS) -> list[str]:
    """Returns tags that the last, unfinished tag of a prompt may become.

    Tags that begin with it come first, then those of which another word does.

    Args:
        prompt: comma-joined tags.
        forms: of `forms_of`.
        limit: at most so many.
    """
    *done, begun = map(tag_text.normal, prompt.split(","))
    if not begun:
        return []
    taken = {*done, begun}
    open_forms = {tag: form for tag, form in forms.items() if form not in taken}
    first = {tag: form for tag, form in open_forms.items() if form.startswith(begun)}
    inside = [t for t, form in open_forms.items() if f" {begun}" in form and t not in first]
    return [*first, *inside][:limit]


def kinds_of(vocabulary: Vocabulary) -> dict[str, str]:
    """Returns the kind of each tag that has one, by the form in which tags are compared."""
    entries = vocabulary["tags"].items()
    return {tag_text.normal(tag): entry["kind"] for tag, entry in entries if "kind" in entry}


def mark(
    prompt: str,
    concepts: Iterable[str],
    *,
    kinds: Mapping[str, str],
    tokenizer: tokenizers.Tokenizer,
    spaced: bool,
) -> list[dict[str, str]]:
    """Returns what is to be said of each tag of a prompt: {"tag", "mark", "note"}.

    The mark is "known"; "decided" if a reference carries what the tag names; "unknown" if it has a
    word that the model was never trained with.

    Args:
        prompt: comma-joined tags.
        concepts: of the references.
        kinds: of `kinds_of`.
        tokenizer: of the model.
        spaced: whether the model reads underscores as spaces.
    """
    given = set(concepts)
    concepts = [concept for concept in CONCEPTS if concept in given]
    marks = []
    for tag in split_tags(prompt):
        unknown = unknown_words(spelled(tag, underscores_as_spaces=spaced), tokenizer)
        marks.append(_mark(tag, concepts, unknown, kinds.get(tag_text.normal(tag))))
    return marks


def _mark(tag: str, concepts: list[str], unknown: list[str], kind: str | None) -> dict[str, str]:
    if unknown:
        note = f"the model does not know {', '.join(unknown)}"
        return {"tag": tag, "mark": "unknown", "note": note}
    carriers = [c for c in concepts if kind in CARRIED[CONCEPTS.index(c)]]
    if carriers:
        note = f"the {' and '.join(carriers)} reference decides this ({kind})"
        return {"tag": tag, "mark": "decided", "note": note}
    return {"tag": tag, "mark": "known", "note": ""}


def drawn(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Returns the attributes that `randomized` draws, with their tags; none without questions."""
    choices: dict[str, list[str]] = {}
    for tag, entry in vocabulary["tags"].items():
        if entry["kind"] == "free" and entry["attribute"] in vocabulary["questions"]:
            choices.setdefault(entry["attribute"], []).append(tag)
    return choices


def randomized(prompt: str, vocabulary: Vocabulary, seed: int) -> str:
    """Returns a prompt with a random tag for each attribute that no reference ever decides.

    Tags of the prompt that name these attributes (expression, background) are replaced, others
    stay.
    """
    rng, tags, choices = random.Random(seed), vocabulary["tags"], drawn(vocabulary)
    kept = [t for t in split_tags(prompt) if tags.get(t, {}).get("attribute") not in choices]
    return ", ".join([*kept, *(rng.choice(values) for values in choices.values())])
