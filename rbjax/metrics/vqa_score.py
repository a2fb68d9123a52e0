"""The VQA score: what a VQA model answers about generated images.

The paper's formula is not public; this is ours. Each image is asked the questions that its prompt
implies:

- flexibility = share of the prompt's attributes for which the answer is the wanted one: does the
  image show what the prompt asks for? Equal or not: an answer's words have no similarity that is
  known to mean anything (the model's own word vectors, whitened, are equally far apart).
- P(yes) = product over all phrases of the prompt of P(yes) / (P(yes) + P(no)), as the BLIP-VQA
  score of T2I-CompBench (arXiv 2307.06350, section 4.1).

What cannot be scored is NaN, never right and never 0.
"""

import math
from collections.abc import Mapping

import numpy as np


def normalised(answer: str) -> str:
    """Returns an answer in lower case with single spaces ("_" is a space); "" if it is no word."""
    text = " ".join(answer.lower().replace("_", " ").replace("[unk]", " ").split())
    return text if any(character.isalnum() for character in text) else ""


def agreement(given: Mapping[str, str], expected: Mapping[str, str]) -> float:
    """Returns the share of the expected answers that are given, 0 to 1.

    Args:
        given: attribute to answer, of every expected attribute; "" is never right.
        expected: attribute to answer; an attribute without one ("") is not counted.

    Returns:
        NaN if no attribute is expected.
    """
    counted = {name: normalised(answer) for name, answer in expected.items() if normalised(answer)}
    if not counted:
        return math.nan
    return float(np.mean([normalised(given[name]) == answer for name, answer in counted.items()]))


def probability_yes(phrases: np.ndarray) -> float:
    """Returns the product of an image's P(yes) over its phrases [Q]; NaN if there is none."""
    return float(np.prod(phrases)) if phrases.size else math.nan
