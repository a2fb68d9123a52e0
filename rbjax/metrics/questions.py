"""Questions that a prompt implies: one for each attribute that its tags name.

The vocabulary is the `vocabulary.json` that the data set stores: `tags` says of which attribute a
tag is and how a question about that attribute is answered, `questions` holds one question for each
attribute.
"""

import dataclasses
from collections.abc import Collection, Mapping


@dataclasses.dataclass(frozen=True)
class Question:
    """A question about an image and the answer that the prompt asks for."""

    attribute: str
    text: str
    answer: str


def from_prompt(tags: list[str], vocabulary: dict, size: int, ask: Mapping) -> list[Question]:
    """Returns the questions of the known tags, in the order of the prompt.

    Tags that the vocabulary lacks (such as "solo") ask nothing, and so do attributes that the VQA
    model cannot tell at this size.

    Args:
      tags: the prompt, split at commas.
      vocabulary: content of the data set's `vocabulary.json`.
      size: height of the images in pixels.
      ask: sizes at which an attribute may be asked, by attribute (`VQA.asked`).
    """
    known = [vocabulary["tags"][tag] for tag in tags if tag in vocabulary["tags"]]
    asked = asked_at(size, ask)
    return [
        Question(tag["attribute"], vocabulary["questions"][tag["attribute"]], tag["answer"])
        for tag in known
        if tag["attribute"] in asked
    ]


def phrases_from_prompt(tags: list[str], vocabulary: dict, size: int, ask: Mapping) -> list[str]:
    """Returns the tags that may be asked about with yes or no.

    Arguments are those of `from_prompt`, but `ask` is `VQA.phrases`.
    """
    asked = asked_at(size, ask)
    known = vocabulary["tags"]
    return [tag for tag in tags if tag in known and known[tag]["attribute"] in asked]


def yes_or_no(phrase: str) -> str:
    """Returns the question whether `phrase` is in the image."""
    return f"is there {phrase}?"


def asked_at(size: int, ask: Mapping[str, Collection[int]]) -> set[str]:
    """Returns the attributes that may be asked of images of `size` pixels.

    A size between two measured ones counts as the smaller of the two. Nothing is asked of a model
    that is good at nothing.

    Raises:
      ValueError: `size` is below every measured size.
    """
    sizes = sorted({measured for at in ask.values() for measured in at})
    smaller = [measured for measured in sizes if measured <= size]
    if not smaller and sizes:
        raise ValueError(
            f"No question can be asked of images of {size} px: the smallest size is {sizes[0]}."
        )
    return {attribute for attribute, at in ask.items() if smaller and smaller[-1] in at}
