"""What is evaluated: which characters and outfits, from which references, with which prompts.

A suite is plain data, chosen from tags and clusters alone (no pixel is read), and the same for the
same seed. A suite of fewer characters is the beginning of one of more.

For each character one outfit is drawn. The references are images of the character in *other*
outfits for the face, and images of that outfit for the clothes; at least one image of the outfit
is left over where it has two or more, as the real images that the model is compared with. A
character of one outfit gives its face from that outfit too, and a single image serves as all.

A prompt names only attributes that no reference decides (kind "free" in the vocabulary), and asks
for values that none of the case's references has. An attribute that a reference does not show (it
has no tag: eyes behind sunglasses) is left out, and the background has no colour of the
character's hair or clothes.

Where the vocabulary has no questions (real data: nobody knows all that a picture shows), a prompt
is the recorded one of an image of the outfit that is no reference, without the tags that name what
a reference carries. Where no image has a face box, or training never composes, the references are
whole pictures of the character (`whole`), of any outfit, and so are the real images.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FACE, CLOTHES, CHARACTER = "face", "clothes", "character"
CARRIES = {FACE: {"identity"}, CLOTHES: {"outfit"}, CHARACTER: {"identity", "outfit"}}
OPENING = "solo"  # the tag that every prompt begins with


@dataclasses.dataclass(frozen=True)
class Case:
    """One image to generate. Positions are those of records in the split.

    Attributes:
        character: index of the character in the clusters.
        references: positions of the references, faces first.
        concepts: "face", "clothes" or "character" (the whole picture) of each reference.
        prompt: tags; the first is OPENING.
        seed: of the noise.
        real: position of an image of the same character and outfit that is no reference, or None.
    """

    character: int
    references: tuple[int, ...]
    concepts: tuple[str, ...]
    prompt: tuple[str, ...]
    seed: int
    real: int | None


@dataclasses.dataclass(frozen=True)
class Suite:
    """Cases (those of one character stand together) and what is needed to judge them.

    Attributes:
        cases: what to generate.
        tags: position to tags, of every record that a case names.
        vocabulary: what each tag says; `vocabulary.json` of the data set.
    """

    cases: tuple[Case, ...]
    tags: Mapping[int, tuple[str, ...]]
    vocabulary: Mapping[str, Any]


def build(
    clusters,
    tags: Sequence[Sequence[str]],
    vocabulary: Mapping[str, Any],
    characters: int,
    per_character: int = 4,
    faces: int = 2,
    clothes: int = 2,
    seed: int = 0,
    whole: bool = False,
) -> Suite:
    """Chooses the cases.

    Args:
        clusters: `tfds_retribooru.clusters.Clusters` of the split; characters of which it has no
            image are left out.
        tags: the tags of every record of the split.
        vocabulary: see `Suite`.
        characters: how many characters at most.
        per_character: prompts a character.
        faces: face references a case.
        clothes: clothes references a case.
        seed: decides everything that is drawn.
        whole: the references are faces + clothes whole pictures.

    Raises:
        ValueError: if a number is too small, or the split has no character.
    """
    present = np.flatnonzero(np.diff(clusters.character_start))
    total = len(present)
    if min(characters, per_character, faces + clothes, total) < 1:
        raise ValueError(
            f"an evaluation needs at least one character, prompt and reference; got {characters} "
            f"of {total} characters, {per_character} prompts, {faces} + {clothes} references."
        )
    cases = []
    for character in np.random.default_rng(seed).permutation(present)[:characters]:
        rng = np.random.default_rng([seed, int(character)])
        choose = _whole_references if whole else _references
        references, concepts, left = choose(clusters, int(character), faces, clothes, rng)
        if vocabulary["questions"]:
            shown = [tags[position] for position in references]
            prompts = _prompts(shown, vocabulary, per_character, rng)
        else:
            sources = [tags[position] for position in left or references]
            prompts = _recorded(sources, concepts, vocabulary, per_character)
        for number, prompt in enumerate(prompts):
            real = left[number] if number < len(left) else None
            noise = int(rng.integers(2**31))
            cases.append(Case(int(character), references, concepts, prompt, noise, real))
    return Suite(tuple(cases), _named_tags(cases, tags), vocabulary)


def told(
    tags: Sequence[str], vocabulary: Mapping[str, Any], kinds: Sequence[str]
) -> dict[str, str]:
    """Returns attribute to answer, of the tags whose attribute is of one of the kinds."""
    known = (vocabulary["tags"][tag] for tag in tags if tag in vocabulary["tags"])
    return {entry["attribute"]: entry["answer"] for entry in known if entry["kind"] in kinds}


def _references(clusters, character: int, faces: int, clothes: int, rng: np.random.Generator):
    """Returns (references, concepts, positions of the outfit that are left over)."""
    start, stop = clusters.character_start[character : character + 2]
    members = clusters.order[start:stop]
    outfits, sizes = np.unique(clusters.outfit[members], return_counts=True)
    outfit = rng.choice(outfits[sizes > 1] if (sizes > 1).any() else outfits)
    wears = clusters.outfit[members] == outfit
    same, other = rng.permutation(members[wears]), rng.permutation(members[~wears])
    used = min(clothes, max(len(same) - 1, 1))
    left = same[used:]
    if not len(other):  # one outfit only: the face comes from it, one image stays left over
        if len(left) > 1:
            other, left = left[1:], left[:1]
        else:  # without clothes references (used is 0) a single image is the face
            other, left = same[: max(used, 1)], left[:used]
    chosen = [*other[:faces], *same[:used]]
    concepts = (FACE,) * len(other[:faces]) + (CLOTHES,) * used
    return tuple(map(int, chosen)), concepts, [int(position) for position in left]


def _whole_references(clusters, character: int, faces: int, clothes: int, rng):
    """As `_references`, of whole pictures of any outfit."""
    start, stop = clusters.character_start[character : character + 2]
    members = [int(position) for position in rng.permutation(clusters.order[start:stop])]
    used = min(faces + clothes, max(len(members) - 1, 1))
    return tuple(members[:used]), (CHARACTER,) * used, members[used:]


def _recorded(sources, concepts, vocabulary, count: int) -> list[tuple[str, ...]]:
    """Returns `count` prompts of records in turn, without what the references carry."""
    carried = set().union(*(CARRIES[concept] for concept in concepts)) if concepts else set()
    known = vocabulary["tags"]
    prompts = []
    for number in range(count):
        tags = sources[number % len(sources)]
        free = (tag for tag in tags if known.get(tag, {}).get("kind") not in carried)
        prompts.append((OPENING, *(tag for tag in free if tag != OPENING)))
    return prompts


def _prompts(shown, vocabulary, count: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Returns `count` prompts; a value comes again only when all others were used."""
    free = _free_tags(shown, vocabulary)
    orders = [rng.permutation(np.array(choices, dtype=object)) for choices in free]
    return [
        (OPENING, *(str(order[number % len(order)]) for order in orders)) for number in range(count)
    ]


def _free_tags(shown, vocabulary) -> list[list[str]]:
    """Returns, of each attribute that a prompt may name, the tags that no reference has."""
    values = [told(tags, vocabulary, ("free",)) for tags in shown]
    colours = {
        answer
        for tags in shown
        for name, answer in told(tags, vocabulary, ("identity", "outfit")).items()
        if name.endswith("_color")
    }
    choices: dict[str, list[str]] = {}
    for tag, entry in vocabulary["tags"].items():
        name, answer = entry["attribute"], entry["answer"]
        if entry["kind"] != "free" or any(value.get(name, answer) == answer for value in values):
            continue
        if name != "background" or answer not in colours:
            choices.setdefault(name, []).append(tag)
    return list(choices.values())


def _named_tags(cases: Sequence[Case], tags) -> dict[int, tuple[str, ...]]:
    named = {position for case in cases for position in case.references}
    named |= {case.real for case in cases if case.real is not None}
    return {position: tuple(tags[position]) for position in sorted(named)}
