"""Variants of a suite's cases: what is asked for stays, the references change.

* transformed references (rbjax/evaluation/transformations.py), fewer or more of them: a row of each
  should score as `unchanged`, the same cases as they are (of `more_references` those only for
  which there is a further one);
* the clothes of another character (`cross_composition`): no real image exists.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rbjax.evaluation.baselines import Generate, SystemImages
from rbjax.evaluation.case_prompts import Prompt, Vocabulary, could_be_drawn
from rbjax.evaluation.case_references import apart
from rbjax.evaluation.no_learning import ReadRecord
from rbjax.evaluation.suite import Case, Suite
from rbjax.evaluation.transformations import TRANSFORMATIONS
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from tfds_retribooru.clusters import Clusters

UNCHANGED = "unchanged"
FACE_ONLY, CLOTHES_ONLY, MORE = "face_only", "clothes_only", "more_references"
CROSS = "cross_composition"
VARIANTS = (UNCHANGED, *TRANSFORMATIONS, FACE_ONLY, CLOTHES_ONLY, MORE, CROSS)
CANDIDATES = 4  # for the further reference of a concept
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
        more: the cases of MORE, of `with_more`.
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


def with_more(
    cases: Sequence[Case], more: Suite, clusters: Clusters, drawn_from: Vocabulary
) -> list[Case]:
    """Returns the cases with a further reference for each concept that they have references for.

    A prompt names only what none of its case's references shows or hides. So must it be for the
    further ones, unless prompts are recorded: those may name anything. Cases for which there is no
    further reference are left out.

    Args:
        cases: of a suite.
        more: built as that suite, with up to CANDIDATES references more of each concept.
        clusters: of the split.
        drawn_from: vocabulary of the suites' prompts.
    """
    candidates = {case.character: case for case in more.cases}
    made = []
    for case in cases:
        pairs = list(zip(case.references, case.concepts, strict=True))
        further: dict[int, int] = {}  # concept -> position
        other = candidates[case.character]
        for pair in zip(other.references, other.concepts, strict=True):
            position, concept = pair
            is_new = concept in case.concepts and pair not in pairs
            if is_new and _allows(more.tags[position], case.prompt, drawn_from):
                further.setdefault(concept, position)
        if further:
            pairs += [(position, concept) for concept, position in further.items()]
            made.append(_with_references(case, pairs, clusters))
    return made


def _with_references(case: Case, pairs: Sequence[tuple[int, int]], clusters: Clusters) -> Case:
    """Returns the case with these (position, concept), and no real image that is one of them."""
    references, concepts = zip(*sorted(pairs, key=lambda pair: pair[1]), strict=True)
    real = np.array([] if case.real is None else [case.real], int)
    is_apart = len(apart(clusters, real, references))
    return dataclasses.replace(
        case, references=references, concepts=concepts, real=case.real if is_apart else None
    )


def _allows(tags: Sequence[str], prompt: Prompt, drawn_from: Vocabulary) -> bool:
    """Returns whether a case with a prompt may have a reference with these tags."""
    return not drawn_from["questions"] or could_be_drawn(prompt, [tags], drawn_from)


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
