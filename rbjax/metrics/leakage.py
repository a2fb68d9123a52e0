"""Leakage: how often what the prompt decides comes from the references instead.

The paper's concern is that a model copies its references' expression and background. Evaluation
prompts ask for values that no reference shows, so each of them tells following the prompt from
copying. A wrong answer can equal a reference's by chance too: the systems without references and
with another character's references show how often.
"""

import math
from collections.abc import Collection, Mapping


def leakage(
    generated_answers: Mapping[str, str],
    prompt_answers: Mapping[str, str],
    reference_answers: Mapping[str, Collection[str]],
) -> float:
    """Returns the share of attributes, 0 to 1, that were taken from a reference.

    Args:
        generated_answers: attribute to what the generated image shows.
        prompt_answers: attribute to what the prompt asks for.
        reference_answers: attribute to what the references show, one value or more.

    Returns:
        Among the attributes of the prompt whose expected value no reference shows, the share that
        shows a reference's value; NaN if there is no such attribute.
    """
    counted = [
        name
        for name, expected in prompt_answers.items()
        if name in generated_answers
        and reference_answers.get(name)
        and expected not in reference_answers[name]
    ]
    if not counted:
        return math.nan
    taken = sum(generated_answers[name] in reference_answers[name] for name in counted)
    return taken / len(counted)
