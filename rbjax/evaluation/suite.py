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

An *open* case has an empty prompt: several of them, which differ in the seed alone, tell whether
images vary as real ones do (rbjax/metrics/diversity.py). A *repeat* is the same case with another
seed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rbjax.evaluation import case_prompts, case_references
from rbjax.evaluation.case_prompts import Prompt, Vocabulary
from rbjax.evaluation.case_references import References
from tfds_retribooru.clusters import Clusters

OPEN_IMAGES = 4  # of a character
MAX_VARIETY = 16  # real images of a character that open cases are compared with


@dataclasses.dataclass(frozen=True)
class Case:
    """One image to generate. Positions are those of records in the split.

    Attributes:
        character: index of the character in the clusters.
        references: positions of the references, faces first.
        concepts: index into CONCEPTS of each reference.
        prompt: tags; the first is case_prompts.FIRST_TAG. Empty in an open case.
        seed: of the noise.
        real: position of an image of the same character and outfit that is no reference (in an
            open case in any outfit), or None.
        repeat: how often the case came before, with another seed.
        transformation: of the references, a name of transformations.TRANSFORMATIONS; "" for none.
    """

    character: int
    references: tuple[int, ...]
    concepts: tuple[int, ...]
    prompt: Prompt
    seed: int
    real: int | None
    repeat: int = 0
    transformation: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the prompt is empty."""
        return not self.prompt


@dataclasses.dataclass(frozen=True)
class Suite:
    """Cases (those of one character follow each other) and what is needed to score them.

    Attributes:
        cases: what to generate.
        tags: position to tags, of every record that a case names.
        vocabulary: attribute, answer and kind of each tag; `vocabulary.json` of the data set.
        variety: character to real images of it that no case names, what an open case's images are
            compared with.
        cut: number of prompts that `fitted` made shorter.
    """

    cases: tuple[Case, ...]
    tags: Mapping[int, tuple[str, ...]]
    vocabulary: Vocabulary
    variety: Mapping[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    cut: int = 0


def build(
    clusters: Clusters,
    tags: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    *,
    characters: int,
    per_character: int = 4,
    faces: int = 2,
    clothes: int = 2,
    repeats: int = 1,
    open_characters: int = 0,
    open_images: int = OPEN_IMAGES,
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
        repeats: how often each case comes, each time with another seed.
        open_characters: how many of the characters have open cases too.
        open_images: open cases of such a character.
        seed: of everything that is drawn.
        composition: whether references are given for face and clothes; else they are
            faces + clothes entire images.
        clothed: bool [N], the images that can show clothes; None: all can.

    Raises:
        ValueError: a number is too small, or the split has no character.
    """
    present = np.flatnonzero(np.diff(clusters.character_start))
    total = len(present)
    least = min(characters, per_character, repeats, faces + clothes, total)
    if least < 1 or min(faces, clothes) < 0:
        raise ValueError(
            f"an evaluation needs at least one character, prompt and reference; got {characters} "
            f"of {total} characters, {per_character} prompts, {repeats} repeats, {faces} + "
            f"{clothes} references: see config.eval.characters, eval.split, eval.prompts, "
            "eval.repeats, data.faces and data.clothes"
        )
    clothed = np.ones(len(clusters), bool) if clothed is None else clothed
    cases: list[Case] = []
    variety: dict[int, tuple[int, ...]] = {}
    for number, character in enumerate(_drawn_characters(present, seed)[:characters]):
        rng = np.random.default_rng([seed, character])
        members = clusters.order[slice(*clusters.character_start[character : character + 2])]
        if composition:
            chosen = case_references.choose_composition(
                clusters, members, clothed[members], rng=rng, faces=faces, clothes=clothes
            )
        else:
            chosen = case_references.choose_entire(clusters, members, rng, count=faces + clothes)
        prompts = _prompts(chosen, tags, vocabulary, rng=rng, count=per_character)
        cases += _repeated(_cases(character, chosen, prompts=prompts, rng=rng), repeats)
        if number < open_characters:
            apart = case_references.apart(clusters, np.sort(members), cases[-1].references)
            opened, variety[character] = _open_cases(cases[-1], apart, open_images, rng)
            cases += opened
    named = {p for case in cases for p in (*case.references, case.real) if p is not None}
    named.update(position for positions in variety.values() for position in positions)
    named_tags = {position: tuple(tags[position]) for position in sorted(named)}
    return Suite(tuple(cases), named_tags, vocabulary, variety)


def fitted(suite: Suite, fit: Callable[[Prompt], Sequence[str]]) -> Suite:
    """Returns a suite whose prompts lack the last tags, where a model does not read all of them.

    Args:
        suite: the cases.
        fit: the first tags of a prompt, as many as are read.
    """
    pairs = [(case, tuple(fit(case.prompt))) for case in suite.cases]
    return dataclasses.replace(
        suite,
        cases=tuple(dataclasses.replace(case, prompt=prompt) for case, prompt in pairs),
        cut=sum(case.prompt != prompt for case, prompt in pairs),
    )


def _drawn_characters(present: np.ndarray, seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(present).tolist()


def _repeated(cases: Sequence[Case], repeats: int) -> list[Case]:
    """Returns the cases and their repeats; the first of each is the case itself."""
    return [
        case
        if not repeat
        else dataclasses.replace(case, seed=new_seed(case, repeat), repeat=repeat)
        for case in cases
        for repeat in range(repeats)
    ]


def new_seed(case: Case, number: int) -> int:
    """Returns another seed of a case, below 2**31."""
    return int(np.random.default_rng([case.seed, number]).integers(2**31))


def _open_cases(
    case: Case, images: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[list[Case], tuple[int, ...]]:
    """Returns open cases with the references of `case`, and the character's images that are left.

    At most half of `images`, those that are no references, serve as the cases' real ones.
    """
    unused = rng.permutation(images).tolist()
    real = unused[: min(count, len(unused) // 2)]
    cases = [
        dataclasses.replace(
            case,
            prompt=(),
            seed=int(rng.integers(2**31)),
            real=real[number] if number < len(real) else None,
            repeat=0,
        )
        for number in range(count)
    ]
    return cases, tuple(unused[len(real) :][:MAX_VARIETY])


def _cases(
    character: int, chosen: References, *, prompts: Sequence[Prompt], rng: np.random.Generator
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


def _prompts(
    chosen: References,
    tags: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    *,
    rng: np.random.Generator,
    count: int,
) -> list[Prompt]:
    """Returns `count` prompts: drawn ones, or recorded ones where there are no questions."""
    if vocabulary["questions"]:
        shown = [tags[position] for position in chosen.positions]
        return case_prompts.drawn(shown, vocabulary, rng, count=count)
    sources = [tags[position] for position in chosen.unused or chosen.positions]
    return case_prompts.recorded(sources, chosen.concepts, vocabulary, count=count)
