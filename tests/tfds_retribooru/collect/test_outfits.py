"""The outfit rule: each of its clauses, its independence of order, and avatars, where the truth is
known."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfds_retribooru.clusters import from_records
from tfds_retribooru.collect import outfits
from tfds_retribooru.collect.outfits import NO_OUTFIT, QUESTIONS, Rule

UNIFORM = ["serafuku", "pleated skirt", "kneehighs", "loafers", "neckerchief"]
RULE = Rule()
SWIMSUIT = ["bikini", "sarong", "sun hat", "sandals"]


def groups(cloths, answers=None, rule=RULE) -> set[frozenset[int]]:
    """The outfits as sets of positions; an image without one is a set of itself."""
    assigned = outfits.assign(cloths, answers, rule)
    return {
        frozenset(
            [i] if own == NO_OUTFIT else [j for j, other in enumerate(assigned) if other == own]
        )
        for i, own in enumerate(assigned)
    }


def test_the_same_clothes_are_one_outfit_and_others_another():
    assert groups([UNIFORM, SWIMSUIT, UNIFORM, SWIMSUIT]) == {frozenset({0, 2}), frozenset({1, 3})}


def test_an_image_that_lacks_some_tags_joins():
    assert groups([UNIFORM, UNIFORM[:3]]) == {frozenset({0, 1})}
    assert groups([UNIFORM, UNIFORM[:2]]) == {frozenset({0}), frozenset({1})}


def test_an_image_with_other_tags_does_not_join():
    assert groups([[*UNIFORM, "hat"], UNIFORM]) == {frozenset({0, 1})}
    more = [*UNIFORM[:3], "hat"]  # a quarter of its facts are not the outfit's
    assert groups([UNIFORM, more]) == {frozenset({0}), frozenset({1})}


def test_an_image_between_two_outfits_has_none():
    blue, red = ["coat", "blue skirt", "boots"], ["coat", "red skirt", "boots"]
    assert groups([blue, red, ["coat", "boots"], ["coat", "boots"]]) == {
        frozenset({i}) for i in range(4)
    }


def test_one_garment_in_two_colours_contradicts():
    alike = UNIFORM + SWIMSUIT
    blue, red = ["blue shirt", *alike], ["red shirt", *alike]
    assert groups([blue, red]) == {frozenset({0}), frozenset({1})}
    assert groups([blue, ["striped shirt", *alike]]) == {frozenset({0, 1})}
    assert groups([[*blue, "red shirt"], red]) == {frozenset({0, 1})}


def test_answers_are_facts_and_may_contradict():
    known = [{QUESTIONS[1]: "blue"}, {QUESTIONS[1]: " Blue"}, {QUESTIONS[1]: "red"}]
    cloths = [UNIFORM] * 3
    assert groups(cloths, known) == {frozenset({0, 1}), frozenset({2})}
    assert groups(cloths, [{}, {QUESTIONS[1]: "none"}, {QUESTIONS[1]: ""}]) == {frozenset(range(3))}
    both = [{QUESTIONS[0]: "dress", QUESTIONS[1]: "blue"}] * 2
    assert groups([[], []], both) == {frozenset({0, 1})}


def test_a_tag_that_another_says_more_exactly_is_no_fact():
    assert groups([["skirt", "pleated skirt"]] * 2) == {frozenset({0}), frozenset({1})}
    assert groups([["skirt", "pleated skirt", "hat"], ["pleated skirt", "hat"]]) == {
        frozenset({0, 1})
    }


def test_too_few_facts_start_no_outfit():
    assert groups([["skirt"], ["skirt"], []]) == {frozenset({i}) for i in range(3)}
    assert groups([["skirt"], ["skirt"]], rule=Rule(min_facts=1)) == {frozenset({0, 1})}


@pytest.mark.parametrize("wrong", [{"extra": 1}, {"lacking": -0.1}, {"min_facts": 0}])
def test_thresholds_out_of_range_are_an_error(wrong):
    with pytest.raises(ValueError, match=r"shares must be in \[0, 1\), min_facts at least 1"):
        Rule(**wrong)


TAGS = [*UNIFORM[:3], "hat", "red skirt", "blue skirt", "skirt"]
SETS = st.lists(st.lists(st.sampled_from(TAGS), unique=True), min_size=1, max_size=12)


@given(SETS, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.2, 0.4]))
@settings(max_examples=150, deadline=None)
def test_order_does_not_matter_and_the_index_misses_nothing(cloths, random, share):
    rule = Rule(extra=share, lacking=share)
    order = list(range(len(cloths)))
    random.shuffle(order)
    moved = groups([cloths[i] for i in order], rule=rule)
    expected = groups(cloths, rule=rule)
    assert {frozenset(order[i] for i in group) for group in moved} == expected
    assert {g for g in expected if len(g) > 1} == by_definition(cloths, rule)


def by_definition(cloths, rule: Rule) -> set[frozenset[int]]:
    """The outfits of several images by the rule's words, without an index."""
    known = [
        frozenset(t for t in tags if not any(o.endswith(" " + t) for o in tags)) for tags in cloths
    ]
    seen = list(itertools.chain(*set(known)))
    rare = {f: sorted(f, key=lambda t: (seen.count(t), t)) for f in known}
    outfits_found: dict[frozenset, list] = {}
    for facts in sorted(set(known), key=lambda f: (-len(f), -known.count(f), rare[f])):
        near = []
        for leader in outfits_found:
            extra, lacking = len(facts - leader), len(leader - facts)
            skirts = [{t for t in f if t in ("red skirt", "blue skirt")} for f in (facts, leader)]
            if (
                facts & leader
                and extra <= int(rule.extra * len(facts))
                and lacking <= 1 + int(rule.lacking * len(leader))
                and (not all(skirts) or skirts[0] & skirts[1])
            ):
                near.append((len(facts & leader) / len(facts | leader), leader))
        near.sort(key=lambda pair: -pair[0])
        if len(near) == 1 or len(near) > 1 and near[0][0] - near[1][0] >= rule.margin:
            outfits_found[near[0][1]].append(facts)
        elif not near and len(facts) >= rule.min_facts:
            outfits_found[facts] = [facts]
    found = [
        frozenset(i for i, f in enumerate(known) if f in member)
        for member in outfits_found.values()
    ]
    return {group for group in found if len(group) > 1}


# --- similar lists


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 40])
def test_similar_lists_are_short_and_keep_the_outfit_connected(size):
    ids = np.random.default_rng(size).permutation(1000)[:size].tolist()
    similar = outfits.ring_neighbours(ids, range(len(ids)))
    for name, row in zip(ids, similar, strict=True):
        assert len(set(row)) == len(row) == min(size - 1, 15) and name not in row
    names = [str(name) for name in ids]
    clusters = from_records(names, ["sendai"] * size, [[str(n) for n in row] for row in similar])
    assert len(clusters.outfit_start) == 2


def test_partners_are_of_the_same_outfit():
    ids = [9, 3, 5, 4, 8]
    cloths = [UNIFORM, SWIMSUIT, UNIFORM, SWIMSUIT, ["hat"]]
    found = outfits.partners(ids, cloths, sets=np.arange(5))
    assert found == [([5], None), ([4], None), ([9], None), ([3], None), ([], None)]


# --- avatars


@pytest.fixture(scope="module")
def people(avatars) -> list[list[dict]]:
    """The records of each character."""
    records = [r for split in avatars.info.splits for r in avatars.as_data_source(split)]
    found: dict[bytes, list[dict]] = {}
    for record in records:
        found.setdefault(record["character"], []).append(record)
    assert {len(images) for images in found.values()} == {12}
    return list(found.values())


def measure(people, missing: float, wrong: float | None, seed: int = 0) -> tuple[float, float]:
    """Pairwise precision and recall; `wrong` is the share of wrong answers, None for no answers."""
    rng = np.random.default_rng(seed)
    right = found = there = 0
    for images in people:
        worn = [[tag.decode() for tag in r["cloths"]] for r in images]
        cloths = [[tag for tag in tags if rng.random() >= missing] for tags in worn]
        answers = None
        if wrong is not None:
            truth = [
                tuple(r["attributes"][n] for n in ("clothing", "clothing_color")) for r in images
            ]
            answers = [
                {
                    q: f"value {a if rng.random() >= wrong else rng.integers(9)}"
                    for q, a in zip(QUESTIONS, pair, strict=True)
                }
                for pair in truth
            ]
        assigned = outfits.assign(cloths, answers)
        for (a, i), (b, j) in itertools.combinations(zip(worn, assigned, strict=True), 2):
            right += a == b and i == j != NO_OUTFIT
            found += i == j != NO_OUTFIT
            there += a == b
    return right / found, right / there


def test_with_all_tags_the_outfits_of_avatars_are_found_exactly(people):
    assert measure(people, 0.0, None) == (1.0, 1.0)


def test_with_missing_tags_pairs_stay_right(people):
    precision, recall = measure(people, 0.2, None)
    assert precision >= 0.98 and recall >= 0.85


def test_answers_find_what_missing_tags_hide(people):
    precision, recall = measure(people, 0.2, 0.01)
    assert precision >= 0.98 and recall >= 0.93
    assert recall > measure(people, 0.2, None)[1]


# --- size


def test_a_character_of_many_posts_is_not_compared_pair_by_pair(monkeypatch):
    count = 20_000
    rng = np.random.default_rng(0)
    worn = rng.zipf(1.3, (count // 20, 8)) % 800  # 20 posts an outfit
    keep = rng.random((count, 8)) > 0.2
    cloths = [[f"tag{k}" for k in worn[i // 20][keep[i]]] for i in range(count)]
    compared = []
    candidates = outfits._Outfits._candidates

    def counting(*args):
        found = candidates(*args)
        compared.append(len(found))
        return found

    monkeypatch.setattr(outfits._Outfits, "_candidates", counting)
    assert len(set(outfits.assign(cloths))) > 500
    assert sum(compared) < 10 * count  # all pairs would be 10,000 for each post
