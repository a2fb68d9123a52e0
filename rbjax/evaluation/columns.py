"""The columns of the evaluation's table: from answers about images to one value a character.

They are described in `rbjax/evaluation/results.py`. A value that cannot be scored is NaN here; it
is counted, and no mean contains it.
"""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rbjax.evaluation.asking import KINDS, NO_WORD, Answers, AskedImage, Asker
from rbjax.metrics import bootstrap, diversity, vqa_score
from rbjax.metrics.leakage import chance, leakage
from rbjax.metrics.swd import similarity_weighted_diversity

OF_AN_IMAGE = ("vqa_flexibility", "p_yes", "outfit_agreement", "identity_agreement", "leakage")
OF_OPEN_CASES = ("seed_diversity", "swd")
NO_PHRASE = "prompt without a phrase"
UNASKED = "phrase that cannot be asked"
CHANCE = "leakage_chance"
OTHERS = 32  # images that say how often leakage is chance


def of_image(image: AskedImage, others: Iterable[Answers] = ()) -> dict[str, float]:
    """Returns the columns of an image that is asked for with a prompt.

    Args:
        image: what it should show and what it shows.
        others: `AskedImage.given` of other characters.
    """
    names = (*OF_AN_IMAGE, CHANCE)
    if image.fault or image.case.is_open:
        return dict.fromkeys(names, math.nan)
    values = (
        vqa_score.agreement(image.given, image.expected["free"]),
        vqa_score.probability_yes(np.array(list(image.phrases.values()))),
        vqa_score.agreement(image.given, image.expected["outfit"]),
        vqa_score.agreement(image.given, image.expected["identity"]),
        leakage(image.given, image.wanted, image.unwanted),
        chance(others, image.wanted, image.unwanted),
    )
    return dict(zip(names, values, strict=True))


def of_images(images: Sequence[AskedImage]) -> list[dict[str, float]]:
    """Returns the columns of each image."""
    others = [(image.case.character, image.given) for image in images if not image.case.is_open]
    values = []
    for number, image in enumerate(images):
        # a part of them: those that follow, at even distances
        step = max(len(others) // OTHERS, 1)
        chosen = (others[(number + i * step) % len(others)] for i in range(OTHERS) if others)
        values.append(of_image(image, [g for c, g in chosen if c != image.case.character]))
    return values


def of_open_cases(images: Sequence[AskedImage], asker: Asker) -> dict[str, list[float]]:
    """Returns the columns of open cases, a value for each character that has such cases."""
    columns: dict[str, list[float]] = {name: [] for name in OF_OPEN_CASES}
    for character, group in _groups(images, [image.case.character for image in images]).items():
        opened = [image for image in group if image.case.is_open]
        if not opened:
            continue
        names = asker.varied_names(int(character))
        pairs = [(_given(opened, name), _real(asker, int(character), name)) for name in names]
        columns["seed_diversity"].append(diversity.seed_diversity(pairs))
        columns["swd"].append(_swd(opened, names))
    return columns


def variety(images: Sequence[AskedImage], asker: Asker) -> dict[str, dict[str, dict[str, int]]]:
    """Returns {attribute: {"generated" or "real": {answer: count}}} of open cases."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for character, group in _groups(images, [image.case.character for image in images]).items():
        opened = [image for image in group if image.case.is_open]
        for name in asker.varied_names(int(character)) if opened else ():
            entry = counts.setdefault(name, {"generated": Counter(), "real": Counter()})
            entry["generated"].update(_given(opened, name))
            entry["real"].update(_real(asker, int(character), name))
    return {
        name: {of: dict(sorted(c.items())) for of, c in entry.items()}
        for name, entry in sorted(counts.items())
    }


def shares(images: Sequence[AskedImage]) -> dict[str, dict[str, Any]]:
    """Returns for every attribute its kind and the share of images with the expected answer."""
    correct: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for image in images:
        for kind in KINDS if not image.fault else ():
            for name, text in image.expected[kind].items():
                correct[name, kind].append(image.given[name] == text)
    return {
        name: {"kind": kind, "share": float(np.mean(v)), "images": len(v)}
        for (name, kind), v in correct.items()
    }


def confusion(images: Sequence[AskedImage]) -> dict[str, dict[str, dict[str, int]]]:
    """Returns {attribute: {wanted answer: {given answer: count}}}."""
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for image in images:
        for name, text in image.wanted.items() if not image.fault else ():
            counts[name][text][image.given[name]] += 1
    return {
        name: {wanted: dict(sorted(given.items())) for wanted, given in sorted(rows.items())}
        for name, rows in sorted(counts.items())
    }


def unscored(images: Sequence[AskedImage]) -> dict[str, int]:
    """Returns why something could not be scored, and how often."""
    reasons = Counter(image.fault for image in images if image.fault)
    sound = [image for image in images if not image.fault]
    reasons[NO_WORD] = sum(not text for image in sound for text in image.given.values())
    reasons[UNASKED] = sum(len(image.unasked) for image in sound)
    reasons[NO_PHRASE] = sum(
        not image.phrases and not image.unasked and not image.case.is_open for image in sound
    )
    return {reason: count for reason, count in sorted(reasons.items()) if count}


@dataclasses.dataclass(frozen=True)
class Column:
    """Values of one column of one row.

    Attributes:
        values: of the images, NaN where one is not scored.
        characters: of the images.
        repeats: `Case.repeat` of the images.
    """

    values: Sequence[float]
    characters: Sequence[int]
    repeats: Sequence[int]

    def summary(self, resamples: int) -> dict[str, Any] | None:
        """Returns mean and interval over characters, and the mean of each sampling seed.

        None if there is nothing to score; "unscored" counts the values that are missing.
        """
        by_character = list(_means(self.values, self.characters).values())
        if not by_character:
            return None
        bounds = bootstrap.interval(np.array(by_character), seed=0, resamples=resamples)
        groups = _groups(list(zip(self.values, self.characters, strict=True)), self.repeats)
        seeds = [_means(*zip(*group, strict=True)).values() for group in groups.values()]
        return {
            **dict(zip(("mean", "low", "high"), bounds, strict=True)),
            "seeds": [float(np.mean(list(means))) for means in seeds if means],
            "unscored": int(np.isnan(self.values).sum()),
        }


def _means(values: Sequence[float], groups: Sequence[Hashable]) -> dict[Hashable, float]:
    """Returns the mean of each group's values; groups without any are not in it."""
    found = _groups(values, groups)
    finite = {key: [v for v in group if not math.isnan(v)] for key, group in found.items()}
    return {key: float(np.mean(group)) for key, group in finite.items() if group}


def _groups(items: Sequence[Any], keys: Sequence[Hashable]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, item in zip(keys, items, strict=True):
        groups[key].append(item)
    return dict(groups)


def _given(images: Sequence[AskedImage], name: str) -> list[str]:
    """Returns the answers about images; one that is no word is a value of its own."""
    return [image.given[name] for image in images if not image.fault]


def _real(asker: Asker, character: int, name: str) -> list[str]:
    positions = asker.suite.variety[character]
    answers: Iterable[Mapping[str, str]] = (asker.real_answers[p] for p in positions)
    return [found[name] for found in answers if found[name]]


def _swd(images: Sequence[AskedImage], names: Sequence[str]) -> float:
    """Returns the SWD of a character's open cases; NaN if nothing can be compared."""
    sound = [image for image in images if not image.fault]
    similarities = np.array([vqa_score.agreement(image.given, image.wanted) for image in sound])
    if len(sound) < 2 or not names or np.isnan(similarities).any():
        return math.nan
    given = np.array([[image.given[name] for name in names] for image in sound])
    differences = (given[:, None] != given[None]).mean(axis=-1)
    return similarity_weighted_diversity(similarities, differences)
