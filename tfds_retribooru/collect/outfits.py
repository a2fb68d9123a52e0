"""Which images of one character show the same outfit: a pure function of tags and answers (ours).

The rule, for the images of one character. What is known of an image's clothes are its *facts*: its
clothing tags, without those that another of its tags says more exactly ("skirt" beside "pleated
skirt"), and, where a VQA model was asked, its answers ("what color are the clothes?": "blue").
Tags of real images are incomplete but seldom wrong, so outfits are found from the best described
image down. An image agrees with an outfit if nothing contradicts (one question with two answers,
one garment in other colours), at most a share `extra` of the image's facts are not facts of the
image that started the outfit, and of those it lacks at most one and a share `lacking`. It joins the
outfit that it agrees with; if it agrees with several, the one with which it shares most (Jaccard),
but if a second is as near, within `margin`, the facts cannot tell and it joins none. If it agrees
with no outfit and has at least `min_facts` facts, it starts one.

The paper says only "InstructBLIP and simple yet strict heuristics". An image without an outfit has
no partner and is not collected: doubt costs images, not wrong pairs.
"""

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tfds_retribooru import variants

QUESTIONS = ("what is the person wearing?", "what color are the clothes?")
COLORS = frozenset(
    "aqua beige black blue brown cyan gold gray green grey lavender orange pink purple red silver "
    "tan white yellow".split()
)
NO_ANSWER = frozenset({"", "none", "no", "nothing", "unknown", "not sure"})
NO_OUTFIT = -1
MOST_PARTNERS = 15  # longest `similar` list; the paper's histogram ends with "15 or more"


Fact = tuple[str, str]  # ("", tag) or (question, answer)


@dataclasses.dataclass(frozen=True)
class Rule:
    """The thresholds of the rule above.

    Raises:
        ValueError: one is out of its range.

    Attributes:
        extra: share of an image's facts that its outfit may lack, in [0, 1).
        lacking: share of an outfit's facts that an image may lack, beside one, in [0, 1).
        margin: by how much (Jaccard) the best outfit must beat the second, in [0, 1).
        min_facts: how many facts an image needs to start an outfit, at least 1.
    """

    extra: float = 0.2
    lacking: float = 0.25
    margin: float = 0.1
    min_facts: int = 2

    def __post_init__(self) -> None:
        shares = self.extra, self.lacking, self.margin
        if not all(0 <= share < 1 for share in shares) or self.min_facts < 1:
            raise ValueError(f"{self}: shares must be in [0, 1), min_facts at least 1")


def assign(
    cloths: Sequence[Collection[str]],
    answers: Sequence[Mapping[str, str]] | None = None,
    rule: Rule = Rule(),
) -> list[int]:
    """Groups the images of one character by outfit.

    Args:
        cloths: clothing tags of each image, with spaces.
        answers: of each image, question -> answer; None where no VQA model was asked.
        rule: thresholds.

    Returns:
        For each image the number of its outfit, or NO_OUTFIT. The result does not depend on the
        order of the images.
    """
    answers = answers if answers is not None else [{}] * len(cloths)
    facts = [_facts(*pair) for pair in zip(cloths, answers, strict=True)]
    outfit_of = _assign_distinct(Counter(facts), rule)
    return [outfit_of[image] for image in facts]


def partners(
    ids: Sequence[int],
    cloths: Sequence[Collection[str]],
    *,
    sets: np.ndarray,
    answers: Sequence[Mapping[str, str]] | None = None,
    rule: Rule = Rule(),
) -> list[tuple[list[int], int | None]]:
    """Finds what the annotation of each image of one character names.

    The other arguments are those of `assign`, in any order.

    Args:
        ids: of the images.
        cloths: see above.
        sets: variant set of each image, of `variants.sets`: those of one set are no partners.
        answers: see above.
        rule: see above.

    Returns:
        For each image its `similar` list, empty if it has no partner, and the first of its
        variants that has one, None if that is the image itself.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i, outfit in enumerate(assign(cloths, answers, rule)):
        if outfit != NO_OUTFIT:
            members[outfit].append(i)
    similar: list[list[int]] = [[] for _ in ids]
    for group in members.values():
        rows = ring_neighbours([ids[i] for i in group], sets[group].tolist())
        for i, row in zip(group, rows, strict=True):
            similar[i] = row
    firsts = variants.parents(ids, sets, [bool(row) for row in similar])
    return list(zip(similar, firsts, strict=True))


def ring_neighbours(
    ids: Sequence[int], sets: Sequence[int], most: int = MOST_PARTNERS
) -> list[list[int]]:
    """Returns the `similar` list of each image of one outfit, in the order of `ids`.

    The images stand in a ring sorted by id, and each names the next `most` of other variant sets:
    a list stays short, and an outfit of more than one set stays one connected component.
    """
    ring = sorted(range(len(ids)), key=ids.__getitem__)
    after: dict[int, list[int]] = {}
    for place, i in enumerate(ring):
        following = (ring[(place + k) % len(ring)] for k in range(1, len(ring)))
        others = (j for j in following if sets[j] != sets[i])
        after[i] = [ids[j] for j in itertools.islice(others, most)]
    return [after[i] for i in range(len(ids))]


def _facts(cloths: Collection[str], answers: Mapping[str, str]) -> frozenset[Fact]:
    tails = {tag[i + 1 :] for tag in cloths for i, letter in enumerate(tag) if letter == " "}
    tags = {("", tag) for tag in cloths if tag not in tails}
    replies = {(question, text.strip().lower()) for question, text in answers.items()}
    return frozenset(tags | {fact for fact in replies if fact[1] not in NO_ANSWER})


def _assign_distinct(
    counts: Mapping[frozenset[Fact], int], rule: Rule
) -> dict[frozenset[Fact], int]:
    """Returns the outfit of every distinct set of facts, given how many images have it."""
    frequency: Counter[Fact] = Counter()
    for facts in counts:
        frequency.update(facts)
    ranked = {facts: sorted(facts, key=lambda f: (frequency[f], f)) for facts in counts}
    outfits = _Outfits(rule)
    best_described = sorted(counts, key=lambda f: (-len(f), -counts[f], ranked[f]))
    return {facts: outfits.assign(facts, ranked[facts]) for facts in best_described}


class _Outfits:
    """The outfits found so far, each by the facts of the image that started it: its leader.

    Two sets that agree share all but a few facts of each. So the two rarest facts that they share
    are among the rarest few + 2 of either (prefix filtering, known from set similarity joins): only
    pairs of these are indexed and looked up, or single facts where one shared fact is enough.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._leaders: list[frozenset[Fact]] = []
        self._by_facts: dict[tuple[Fact, ...], list[int]] = defaultdict(list)  # one fact or two

    def assign(self, facts: frozenset[Fact], ranked: Sequence[Fact]) -> int:
        """Returns the outfit that agrees with `facts`, a new one, or NO_OUTFIT in doubt.

        Args:
            facts: of an image.
            ranked: the same, from the rarest on.
        """
        scores = sorted(self._scores(facts, self._candidates(ranked)), reverse=True)
        if not scores:
            return self._start(facts, ranked) if len(facts) >= self._rule.min_facts else NO_OUTFIT
        if len(scores) > 1 and scores[0][0] - scores[1][0] < self._rule.margin:
            return NO_OUTFIT
        return scores[0][1]

    def _start(self, facts: frozenset[Fact], ranked: Sequence[Fact]) -> int:
        outfit = len(self._leaders)
        self._leaders.append(facts)
        most_lacking = self._most_lacking(facts)
        for key in _keys(ranked, most_lacking, min(2, len(facts) - most_lacking)):
            self._by_facts[key].append(outfit)
        return outfit

    def _candidates(self, ranked: Sequence[Fact]) -> set[int]:
        most_extra = int(self._rule.extra * len(ranked))
        keys = itertools.chain(_keys(ranked, most_extra, 1), _keys(ranked, most_extra, 2))
        return {outfit for key in keys for outfit in self._by_facts.get(key, ())}

    def _scores(
        self, facts: frozenset[Fact], outfits: Iterable[int]
    ) -> Iterator[tuple[float, int]]:
        """Yields (Jaccard similarity, outfit) of the outfits that agree with `facts`."""
        most_extra = int(self._rule.extra * len(facts))
        for outfit in outfits:
            leader = self._leaders[outfit]
            shared = len(facts & leader)
            extra, lacking = len(facts) - shared, len(leader) - shared
            agrees = extra <= most_extra and lacking <= self._most_lacking(leader)
            if agrees and not _contradict(facts, leader):
                yield shared / (shared + extra + lacking), outfit

    def _most_lacking(self, leader: frozenset[Fact]) -> int:
        """Returns how many facts of a leader an image may lack; it shares at least one."""
        return min(1 + int(self._rule.lacking * len(leader)), len(leader) - 1)


def _keys(ranked: Sequence[Fact], unshared: int, size: int) -> Iterator[tuple[Fact, ...]]:
    """Yields tuples of facts: a set that lacks at most `unshared` facts contains one of them."""
    return itertools.combinations(ranked[: unshared + size], size)


def _contradict(a: frozenset[Fact], b: frozenset[Fact]) -> bool:
    """Returns whether a question has two answers, or a garment has other colours in b than in a."""
    in_a, in_b = _exclusive(a), _exclusive(b)
    return any(in_a[key].isdisjoint(in_b[key]) for key in in_a.keys() & in_b.keys())


def _exclusive(facts: frozenset[Fact]) -> dict[tuple[str, str], set[str]]:
    """Returns the values of what can have but one: answers by question, colours by garment."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for question, text in facts:
        color, _, garment = text.partition(" ")
        if question:
            values[question, ""].add(text)
        elif garment and color in COLORS:
            values["", garment].add(color)
    return values
