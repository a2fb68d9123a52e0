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

The paper says only "InstructBLIP and simple yet strict heuristics". An image that is left alone has
no partner and is not collected: doubt costs images, not wrong pairs.
"""

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

QUESTIONS = ("what is the person wearing?", "what color are the clothes?")
COLORS = frozenset(
    "aqua beige black blue brown cyan gold gray green grey lavender orange pink purple red silver "
    "tan white yellow".split()
)
NO_ANSWER = frozenset({"", "none", "no", "nothing", "unknown", "not sure"})
ALONE = -1
NEIGHBOURS = 15  # longest `similar` list; the paper's histogram ends with "15 or more"


@dataclasses.dataclass(frozen=True)
class Rule:
    """The thresholds of the rule above.

    Raises ValueError where one is out of its range.

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

    def __post_init__(self):
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
        For each image the number of its outfit, or ALONE. The result does not depend on the order
        of the images. An image is compared with the outfits that share some of its rarest facts,
            not
        with all images.
    """
    answers = answers if answers is not None else [{}] * len(cloths)
    known = [_facts(*pair) for pair in zip(cloths, answers, strict=True)]
    homes = _homes(Counter(known), rule)
    return [homes[facts] for facts in known]


def partners(
    ids: Sequence[int],
    cloths: Sequence[Collection[str]],
    answers: Sequence[Mapping[str, str]] | None = None,
    rule: Rule = Rule(),
) -> list[list[int]]:
    """Returns the `similar` list of each image of one character; empty if it has no partner.

    Arguments are those of `assign` and, in the same order, the ids; they need not be sorted.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i, outfit in enumerate(assign(cloths, answers, rule)):
        if outfit != ALONE:
            members[outfit].append(i)
    similar: list[list[int]] = [[] for _ in ids]
    for group in members.values():
        for i, names in zip(group, neighbours([ids[i] for i in group]), strict=True):
            similar[i] = names
    return similar


def neighbours(ids: Sequence[int], most: int = NEIGHBOURS) -> list[list[int]]:
    """Returns the `similar` list of each image of one outfit, in the order of `ids`.

    Up to `most` + 1 images name all others. More stand in a ring sorted by id and each names the
    next `most`: a list stays short and the outfit stays one connected component.
    """
    ring = sorted(ids)
    size, span = len(ring), min(most, len(ring) - 1)
    after = {
        name: [ring[(i + k) % size] for k in range(1, span + 1)] for i, name in enumerate(ring)
    }
    return [after[name] for name in ids]


def _facts(cloths: Collection[str], answers: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """("", tag) for tags, (question, answer) for answers."""
    tails = {tag[i + 1 :] for tag in cloths for i, letter in enumerate(tag) if letter == " "}
    tags = {("", tag) for tag in cloths if tag not in tails}
    said = {(question, text.strip().lower()) for question, text in answers.items()}
    return frozenset(tags | {fact for fact in said if fact[1] not in NO_ANSWER})


def _homes(counts: Mapping[frozenset, int], rule: Rule) -> dict[frozenset, int]:
    """The outfit of every distinct set of facts.

    Two sets that agree share all but a few facts of each. So the two rarest facts that they share
    are among the rarest few + 2 of either (prefix filtering, known from set similarity joins): only
    pairs of these are indexed and looked up, or single facts where one shared fact is enough.
    """
    rarity: Counter = Counter()
    for facts in counts:
        rarity.update(facts)
    ranked = {facts: sorted(facts, key=lambda f: (rarity[f], f)) for facts in counts}
    homes: dict[frozenset, int] = {}
    leaders: list[frozenset] = []
    index: dict[tuple, list[int]] = defaultdict(list)  # one or two facts -> leaders
    for facts in sorted(counts, key=lambda f: (-len(f), -counts[f], ranked[f])):
        extra = int(rule.extra * len(facts))
        keys = [*_keys(ranked[facts], extra, 1), *_keys(ranked[facts], extra, 2)]
        homes[facts] = home = _nearest(facts, keys, leaders, index, rule)
        if home == len(leaders):
            leaders.append(facts)
            lacking = _may_lack(facts, rule)
            for key in _keys(ranked[facts], lacking, min(2, len(facts) - lacking)):
                index[key].append(home)
    return homes


def _keys(ranked: Sequence, unshared: int, size: int) -> Iterator[tuple]:
    """Tuples of facts: a set that lacks at most `unshared` of them holds one tuple whole."""
    return itertools.combinations(ranked[: unshared + size], size)


def _may_lack(leader: frozenset, rule: Rule) -> int:
    """How many of an outfit's facts an image may lack; one, at least, must be shared."""
    return min(1 + int(rule.lacking * len(leader)), len(leader) - 1)


def _nearest(facts, keys, leaders, index, rule: Rule) -> int:
    """The outfit that facts agree with; len(leaders) for a new one; ALONE if it cannot be told."""
    scores = []
    for k in {k for key in keys for k in index.get(key, ())}:
        leader = leaders[k]
        shared = len(facts & leader)
        extra, lacking = len(facts) - shared, len(leader) - shared
        if extra > int(rule.extra * len(facts)) or lacking > _may_lack(leader, rule):
            continue
        if not _contradict(facts, leader):
            scores.append((shared / (shared + extra + lacking), k))
    if not scores:
        return len(leaders) if len(facts) >= rule.min_facts else ALONE
    scores.sort(reverse=True)
    if len(scores) > 1 and scores[0][0] - scores[1][0] < rule.margin:
        return ALONE
    return scores[0][1]


def _contradict(a: frozenset, b: frozenset) -> bool:
    """Whether a question has two answers, or a garment is of other colours in a than in b."""
    mine, theirs = _exclusive(a), _exclusive(b)
    return any(mine[key].isdisjoint(theirs[key]) for key in mine.keys() & theirs.keys())


def _exclusive(facts: frozenset) -> dict[tuple, set[str]]:
    """{what can have but one value: its values}."""
    values: dict[tuple, set[str]] = defaultdict(set)
    for question, text in facts:
        color, _, garment = text.partition(" ")
        if question:
            values[question, ""].add(text)
        elif garment and color in COLORS:
            values["", garment].add(color)
    return values
