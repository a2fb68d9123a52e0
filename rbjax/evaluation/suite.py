"""What is evaluated: which characters and outfits, from which references, with which prompts.

A suite is plain data, chosen from tags and clusters only (no image is read), and the same for the
same seed. A suite of fewer characters is the beginning of one of more.

For each character one outfit is drawn. The references are images of the character in *other*
outfits for the face, and images of that outfit for the clothes; where the outfit has two images or
more, at least one is no reference: a real image that the model is compared with. A character of
one outfit gives its face from that outfit too, and a single image serves as all.

A prompt names only attributes that no reference decides (kind "free" in the vocabulary), and asks
for values that none of the case's references has. An attribute that a reference does not show (it
has no tag: eyes behind sunglasses) is not named, and the background has no colour of the
character's hair or clothes.

Where the vocabulary has no questions (real data: nobody knows all that an image shows), a prompt
is the recorded one of an image of the outfit that is no reference, without the tags that name what
a reference carries. Without `composition` (no image has a face box, or training never composes),
the references are entire images of the character in any outfit, and so are the real images.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rbjax.text.concepts import CHARACTER, CLOTHES, FACE, carried_kinds
from rbjax.text.prompts import free_tags
from tfds_retribooru.clusters import Clusters

FIRST_TAG = "solo"  # of every prompt

Vocabulary = Mapping[str, Any]
Prompt = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """One image to generate. Positions are those of records in the split.

    Attributes:
        character: index of the character in the clusters.
        references: positions of the references, faces first.
        concepts: index into CONCEPTS of each reference.
        prompt: tags; the first is FIRST_TAG.
        seed: of the noise.
        real: position of an image of the same character and outfit that is no reference, or None.
    """

    character: int
    references: tuple[int, ...]
    concepts: tuple[int, ...]
    prompt: Prompt
    seed: int
    real: int | None


@dataclasses.dataclass(frozen=True)
class Suite:
    """Cases (those of one character follow each other) and what is needed to score them.

    Attributes:
        cases: what to generate.
        tags: position to tags, of every record that a case names.
        vocabulary: attribute, answer and kind of each tag; `vocabulary.json` of the data set.
    """

    cases: tuple[Case, ...]
    tags: Mapping[int, tuple[str, ...]]
    vocabulary: Vocabulary


class _References(NamedTuple):
    """References of a character, their concepts, and images of the outfit that are none."""

    positions: tuple[int, ...]
    concepts: tuple[int, ...]
    unused: list[int]


def build(
    clusters: Clusters,
    tags: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    *,
    characters: int,
    per_character: int = 4,
    faces: int = 2,
    clothes: int = 2,
    seed: int = 0,
    composition: bool = True,
    clothed: np.ndarray | None = None,
) -> Suite:
    """Chooses the cases.

    Args:
        clusters: of the split; characters of which it has no image are skipped.
        tags: the tags of every record of the split.
        vocabulary: see `Suite`.
        characters: how many characters at most.
        per_character: prompts of a character.
        faces: face references of a case.
        clothes: clothes references of a case.
        seed: of everything that is drawn.
        composition: whether references are given for face and clothes; else they are
            faces + clothes entire images.
        clothed: bool [N], the images that can show clothes; None: all can.

    Raises:
        ValueError: a number is too small, or the split has no character.
    """
    present = np.flatnonzero(np.diff(clusters.character_start))
    total = len(present)
    if min(characters, per_character, faces + clothes, total) < 1:
        raise ValueError(
            f"an evaluation needs at least one character, prompt and reference; got {characters} "
            f"of {total} characters, {per_character} prompts, {faces} + {clothes} references: see "
            "config.eval.characters, eval.split, eval.prompts, data.faces and data.clothes"
        )
    clothed = np.ones(len(clusters), bool) if clothed is None else clothed
    cases = []
    for character in np.random.default_rng(seed).permutation(present)[:characters]:
        rng = np.random.default_rng([seed, int(character)])
        members = clusters.order[slice(*clusters.character_start[character : character + 2])]
        if composition:
            outfits, worn = clusters.outfit[members], clothed[members]
            chosen = _choose_composition(
                members, outfits, worn, rng=rng, faces=faces, clothes=clothes
            )
        else:
            chosen = _choose_entire(members, rng, count=faces + clothes)
        prompts = _prompts(chosen, tags, vocabulary, rng=rng, count=per_character)
        cases += _cases(int(character), chosen, prompts=prompts, rng=rng)
    return Suite(tuple(cases), _named_tags(cases, tags), vocabulary)


def _cases(
    character: int, chosen: _References, *, prompts: Sequence[Prompt], rng: np.random.Generator
) -> list[Case]:
    """Returns a case for each prompt of a character, with a real image while there are some."""
    return [
        Case(
            character=character,
            references=chosen.positions,
            concepts=chosen.concepts,
            prompt=prompt,
            seed=int(rng.integers(2**31)),
            real=chosen.unused[number] if number < len(chosen.unused) else None,
        )
        for number, prompt in enumerate(prompts)
    ]


def tag_answers(
    tags: Sequence[str], vocabulary: Vocabulary, kinds: Sequence[str]
) -> dict[str, str]:
    """Returns {attribute: answer} of the tags whose attribute is of one of the kinds."""
    known = (vocabulary["tags"][tag] for tag in tags if tag in vocabulary["tags"])
    return {entry["attribute"]: entry["answer"] for entry in known if entry["kind"] in kinds}


def _choose_composition(
    members: np.ndarray,
    outfits: np.ndarray,
    clothed: np.ndarray,
    *,
    rng: np.random.Generator,
    faces: int,
    clothes: int,
) -> _References:
    """Draws an outfit, faces from other outfits, and clothes.

    Args:
        members: positions of the character's images [M].
        outfits: their outfits [M].
        clothed: whether each can show clothes [M]; outfits of which none can are drawn last.
        rng: draws.
        faces: number of faces.
        clothes: number of clothes.
    """
    names = np.unique(outfits[clothed] if clothed.any() else outfits)
    several = names[np.array([(outfits == name).sum() > 1 for name in names])]
    is_of_outfit = outfits == rng.choice(several if len(several) else names)
    same, other = rng.permutation(members[is_of_outfit]), rng.permutation(members[~is_of_outfit])
    shows = np.isin(same, members[clothed])
    same = np.concatenate([same[shows], same[~shows]])
    used = min(clothes, int(shows.sum()), max(len(same) - 1, 1))
    unused = same[used:]
    if not len(other):  # one outfit only: the face comes from it, one image stays unused
        if len(unused) > 1:
            other, unused = unused[1:], unused[:1]
        else:  # without clothes references (used is 0) a single image is the face
            other, unused = same[: max(used, 1)], unused[:used]
    positions = [*other[:faces], *same[:used]]
    concepts = (FACE,) * len(other[:faces]) + (CLOTHES,) * used
    return _References(tuple(map(int, positions)), concepts, [int(p) for p in unused])


def _choose_entire(members: np.ndarray, rng: np.random.Generator, *, count: int) -> _References:
    """Draws `count` entire images of any outfit, if there are so many, from positions [M]."""
    drawn = [int(position) for position in rng.permutation(members)]
    used = min(count, max(len(drawn) - 1, 1))
    return _References(tuple(drawn[:used]), (CHARACTER,) * used, drawn[used:])


def _prompts(
    chosen: _References,
    tags: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    *,
    rng: np.random.Generator,
    count: int,
) -> list[Prompt]:
    """Returns `count` prompts: drawn ones, or recorded ones where there are no questions."""
    if vocabulary["questions"]:
        return _drawn_prompts([tags[p] for p in chosen.positions], vocabulary, rng, count=count)
    sources = [tags[position] for position in chosen.unused or chosen.positions]
    carried = carried_kinds(chosen.concepts)
    free = [free_tags(source, vocabulary, carried) for source in sources]
    return [
        (FIRST_TAG, *(tag for tag in free[number % len(free)] if tag != FIRST_TAG))
        for number in range(count)
    ]


def _drawn_prompts(
    reference_tags: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    count: int,
) -> list[Prompt]:
    """Draws prompts; a value comes again only when all others were used."""
    choices = _possible_tags(reference_tags, vocabulary)
    orders = [rng.permutation(np.array(tags, dtype=object)) for tags in choices]
    return [
        (FIRST_TAG, *(str(order[number % len(order)]) for order in orders))
        for number in range(count)
    ]


def _possible_tags(
    reference_tags: Sequence[Sequence[str]], vocabulary: Vocabulary
) -> list[list[str]]:
    """Returns, of each attribute that a prompt may name, the tags that no reference has."""
    values = [tag_answers(tags, vocabulary, ("free",)) for tags in reference_tags]
    colours = {
        answer
        for tags in reference_tags
        for name, answer in tag_answers(tags, vocabulary, ("identity", "outfit")).items()
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


def _named_tags(cases: Sequence[Case], tags: Sequence[Sequence[str]]) -> dict[int, tuple[str, ...]]:
    named = {position for case in cases for position in case.references}
    named |= {case.real for case in cases if case.real is not None}
    return {position: tuple(tags[position]) for position in sorted(named)}
