"""Variants of a suite's cases: what is asked for stays, the references change.

* transformed references (rbjax/evaluation/transformations.py), fewer or more of them: a row of each
  should score as `unchanged`, the same cases as they are;
* the clothes of another character (`cross_composition`): no real image exists.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rbjax.evaluation.baselines import Generate, SystemImages
from rbjax.evaluation.no_learning import ReadRecord
from rbjax.evaluation.suite import Case
from rbjax.evaluation.transformations import TRANSFORMATIONS
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE

UNCHANGED = "unchanged"
FACE_ONLY, CLOTHES_ONLY, MORE = "face_only", "clothes_only", "more_references"
CROSS = "cross_composition"
VARIANTS = (UNCHANGED, *TRANSFORMATIONS, FACE_ONLY, CLOTHES_ONLY, MORE, CROSS)
OF_COMPOSITION = ("loose", FACE_ONLY, CLOTHES_ONLY, CROSS)  # need references for face and clothes


def possible(cases: Sequence[Case], read_record: ReadRecord) -> list[str]:
    """Returns the VARIANTS that cases can have: what needs a face's box or a mask only with it."""
    references = {position for case in cases for position in case.references}
    has_mask = all(read_record(position).get("has_mask", True) for position in references)
    is_composed = any(CHARACTER not in case.concepts for case in cases)
    without = set(() if is_composed else OF_COMPOSITION) | set(() if has_mask else ("recolored",))
    return [name for name in VARIANTS if name not in without]


def collect(
    generate: Generate,
    trained: SystemImages,
    *,
    characters: int,
    more: Sequence[Case] = (),
    names: Sequence[str] = VARIANTS,
) -> dict[str, SystemImages]:
    """Makes the images of variants; one that has no case is not in the result.

    Args:
        generate: the model.
        trained: its images of the suite's own cases.
        characters: how many of the first characters are asked for.
        more: the cases of MORE.
        names: some of VARIANTS.
    """
    base = first(trained.cases, characters)
    place = {case: number for number, case in enumerate(trained.cases)}
    cases = {name: transformed(base, name) for name in TRANSFORMATIONS}
    cases |= {FACE_ONLY: only(base, FACE), CLOTHES_ONLY: only(base, CLOTHES)}
    cases |= {MORE: list(more), CROSS: crossed(base)}
    made = {}
    if UNCHANGED in names and base:
        images = np.stack([trained.images[place[case]] for case in base])
        made[UNCHANGED] = SystemImages(images, tuple(base))
    for name in VARIANTS[1:]:
        if name in names and cases[name]:
            made[name] = SystemImages(generate(cases[name]), tuple(cases[name]))
    return made


def first(cases: Sequence[Case], characters: int) -> list[Case]:
    """Returns the cases of the first characters that have a prompt and are no repeats."""
    chosen = list(dict.fromkeys(case.character for case in cases))[:characters]
    return [c for c in cases if c.character in chosen and not c.is_open and not c.repeat]


def transformed(cases: Sequence[Case], name: str) -> list[Case]:
    """Returns the cases with each reference transformed by TRANSFORMATIONS[name]."""
    return [dataclasses.replace(case, transformation=name) for case in cases]


def only(cases: Sequence[Case], concept: int) -> list[Case]:
    """Returns the cases with the references for one concept; those that have none are left out."""
    kept = []
    for case in cases:
        pairs = zip(case.references, case.concepts, strict=True)
        positions = tuple(position for position, of in pairs if of == concept)
        if positions:
            concepts = (concept,) * len(positions)
            kept.append(dataclasses.replace(case, references=positions, concepts=concepts))
    return kept


def crossed(cases: Sequence[Case]) -> list[Case]:
    """Returns each case with the clothes references of the next character (cyclically).

    Cases without a face or without clothes are left out, and so is everything where there is one
    character only.
    """
    both = [case for case in cases if {FACE, CLOTHES} <= set(case.concepts)]
    characters = list(dict.fromkeys(case.character for case in both))
    if len(characters) < 2:
        return []
    clothes = {case.character: only([case], CLOTHES)[0].references for case in both}
    following = dict(zip(characters, characters[1:] + characters[:1], strict=True))
    result = []
    for case in both:
        faces, others = only([case], FACE)[0].references, clothes[following[case.character]]
        result.append(
            dataclasses.replace(
                case,
                references=faces + others,
                concepts=(FACE,) * len(faces) + (CLOTHES,) * len(others),
                real=None,
            )
        )
    return result
