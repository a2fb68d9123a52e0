"""Separability: what comes in through which reference (ours).

A face of X in outfit O1 and clothes O2 of Y ask for X in O2. The matrix says, for what each of the
two images shows, how much of it the generated image shows:

                     identity          outfit            expression, background
    face's image     (wanted) X        (leak) O1         (leak)
    clothes' image   (leak) Y          (wanted) O2       (leak)

Counted are the attributes in which the two images differ (for the last column: in which the image
differs from the prompt). `chance` is the same share for images of other cases, but those of the
character that gives the clothes and of the one that wears this one's: they may show it rightly.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbjax.evaluation.asking import KINDS, Answers, AskedImage, Asker
from rbjax.evaluation.columns import Column
from rbjax.text.concepts import CARRIED, CLOTHES, CONCEPTS, FACE

OTHERS = 16  # images of other cases that say what is chance


def matrix(images: Sequence[AskedImage], asker: Asker, resamples: int) -> dict[str, Any]:
    """Returns {concept: {kind: cell}} of images of `variants.crossed` cases.

    A cell has "wanted" (whether the concept carries the kind) beside what `Column.summary` gives,
    and "chance"; it is null where nothing can be counted.
    """
    sound = [image for image in images if not image.fault]
    near = _neighbours(list(dict.fromkeys(image.case.character for image in images)))
    cells: dict[str, Any] = {}
    for concept in (FACE, CLOTHES):
        for kind in KINDS:
            shown = [_distinctive(image, asker, concept, kind) for image in sound]
            cell = _cell(sound, shown, near, resamples)
            if cell is not None:
                cell["wanted"] = kind in CARRIED[concept]
            cells.setdefault(CONCEPTS[concept], {})[kind] = cell
    return cells


def _neighbours(characters: list[int]) -> dict[int, set[int]]:
    """Returns each character with the two that it shares references with in crossed cases."""
    shifted = zip(characters[-1:] + characters[:-1], characters[1:] + characters[:1], strict=True)
    return {own: {own, *pair} for own, pair in zip(characters, shifted, strict=True)}


def _cell(
    images: Sequence[AskedImage],
    shown: Sequence[Answers],
    near: Mapping[int, set[int]],
    resamples: int,
) -> dict[str, Any] | None:
    characters = [image.case.character for image in images]
    repeats = [image.case.repeat for image in images]
    values = [_share(image.given, answers) for image, answers in zip(images, shown, strict=True)]
    cell = Column(values, characters, repeats).summary(resamples)
    if cell is None:
        return None
    chances = [_chance(images, number, answers, near) for number, answers in enumerate(shown)]
    level = Column(chances, characters, repeats).summary(2)
    return cell | ({"chance": level["mean"]} if level else {})


def _distinctive(image: AskedImage, asker: Asker, concept: int, kind: str) -> Answers:
    """Returns what the concept's first reference shows of a kind and nothing else asks for."""
    case = image.case
    pairs = dict(reversed(list(zip(case.concepts, case.references, strict=True))))
    if concept not in pairs:
        return {}
    shown = asker.real_answers[pairs[concept]]
    of_kind = asker.tag_answers(asker.suite.tags[pairs[concept]], (kind,))
    if kind == "free":
        others = [image.expected["free"]]
    else:
        others = [asker.real_answers[p] for c, p in pairs.items() if c != concept]
    return {
        name: shown[name]
        for name in of_kind
        if shown[name] and all(other.get(name, shown[name]) != shown[name] for other in others)
    }


def _share(given: Answers, shown: Answers) -> float:
    equal = [given[name] == answer for name, answer in shown.items() if given.get(name)]
    return float(np.mean(equal)) if equal else math.nan


def _chance(
    images: Sequence[AskedImage], number: int, shown: Answers, near: Mapping[int, set[int]]
) -> float:
    """Returns the mean share of what images of characters that are not near show of it."""
    step = max(len(images) // OTHERS, 1)
    others = [images[(number + i * step) % len(images)] for i in range(OTHERS)]
    excluded = near[images[number].case.character]
    shares = [_share(o.given, shown) for o in others if o.case.character not in excluded]
    finite = [share for share in shares if not math.isnan(share)]
    return float(np.mean(finite)) if finite else math.nan
