"""The concepts that a reference is given for, and what each of them carries (paper, Tasks)."""

from collections.abc import Iterable

CONCEPTS = ("face", "clothes", "character")  # the concept words; "character" is the entire image
FACE, CLOTHES, CHARACTER = range(len(CONCEPTS))  # indices into CONCEPTS
CARRIED = {FACE: {"identity"}, CLOTHES: {"outfit"}, CHARACTER: {"identity", "outfit"}}


def carried_kinds(concepts: Iterable[int]) -> set[str]:
    """Returns the kinds of tags ("identity", "outfit") that references of these concepts carry."""
    return set().union(*(CARRIED[int(concept)] for concept in concepts))
