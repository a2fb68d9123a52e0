"""Leakage: how often an image shows what a reference has beyond the concept that it was given for.

The paper's concern is that a model copies its references' expression and background, or the clothes
of the face's image. What is wanted is known (prompt and references), so each attribute for which a
reference has another value than the wanted one tells obeying from copying. A wrong answer can
equal a reference's by chance too: `chance` is how often images of other subjects, made from other
references and prompts, show it.
"""

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np

Values = Mapping[str, Collection[str]]  # attribute -> what references show, one value or more


def leakage(
    generated_answers: Mapping[str, str],
    wanted_answers: Mapping[str, str],
    reference_answers: Values,
) -> float:
    """Returns the share of attributes, 0 to 1, that were taken from a reference.

    Args:
        generated_answers: attribute to what the generated image shows; "" is not counted.
        wanted_answers: attribute to what prompt or references ask for.
        reference_answers: attribute to what the references show beyond their concept.

    Returns:
        Among the attributes whose wanted value no reference shows, the share that shows a
        reference's value; NaN if there is no such attribute.
    """
    counted = [
        name
        for name in counted_names(wanted_answers, reference_answers)
        if generated_answers.get(name)
    ]
    if not counted:
        return math.nan
    taken = sum(generated_answers[name] in reference_answers[name] for name in counted)
    return taken / len(counted)


def counted_names(wanted_answers: Mapping[str, str], reference_answers: Values) -> list[str]:
    """Returns the attributes whose wanted value is known and shown by no reference."""
    return [
        name
        for name, wanted in wanted_answers.items()
        if wanted and reference_answers.get(name) and wanted not in reference_answers[name]
    ]


def chance(
    other_answers: Iterable[Mapping[str, str]],
    wanted_answers: Mapping[str, str],
    reference_answers: Values,
) -> float:
    """Returns the `leakage` into images that have nothing to do with these references.

    Args:
        other_answers: `generated_answers` of other subjects.
        wanted_answers: as of `leakage`.
        reference_answers: likewise.

    Returns:
        Mean over the attributes that count of the share of the other images that show a
        reference's value; NaN if there is none.
    """
    others = list(other_answers)
    rates = []
    for name in counted_names(wanted_answers, reference_answers):
        shown = [other[name] in reference_answers[name] for other in others if other.get(name)]
        rates += [np.mean(shown)] if shown else []
    return float(np.mean(rates)) if rates else math.nan
