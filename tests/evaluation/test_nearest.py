"""Nearest of N: own targets are told from others', by pixels and by embeddings."""

import dataclasses

import numpy as np
import pytest

from rbjax.evaluation import nearest
from rbjax.evaluation.nearest import Targets, score, table
from rbjax.evaluation.suite import Case

SIZE, CHARACTERS = 4, 12


def real(positions):
    """An image for each position."""
    made = [np.random.default_rng(p).uniform(-1, 1, (SIZE, SIZE, 3)) for p in positions]
    return np.array(made, np.float32)


CASES = [
    Case(character, (1000 + i,), (0,), ("solo",), i, real=2 * i + character % 2)
    for i, character in enumerate(np.repeat(range(CHARACTERS), 3).tolist())
]


@pytest.fixture
def targets():
    return Targets.of(CASES, real)


def scored(images, targets, cases=CASES, **embeddings):
    return score({"x": (images, cases)}, targets, embeddings, resamples=50)["rows"]["x"]


def test_real_images_are_nearest_to_themselves(targets):
    images = real([case.real for case in CASES])
    cells = scored(images, targets, flat=lambda x: x.reshape(len(x), -1))
    assert {name: cell["mean"] for name, cell in cells.items()} == {"pixels": 1.0, "flat": 1.0}
    assert cells["pixels"]["images"] == [True] * len(CASES)
    noisy = images + np.random.default_rng(0).normal(0, 0.2, images.shape)
    assert scored(noisy, targets)["pixels"]["mean"] == 1.0


def test_images_of_nobody_are_found_by_chance(targets):
    means = [
        scored(np.random.default_rng(seed).uniform(-1, 1, (36, 4, 4, 3)), targets)["pixels"]["mean"]
        for seed in range(30)
    ]
    assert np.mean(means) == pytest.approx(1 / CHARACTERS, abs=0.03)


def test_another_characters_image_is_never_nearest_to_ones_own(targets):
    shifted = real([CASES[(i + 3) % len(CASES)].real for i in range(len(CASES))])
    assert scored(shifted, targets)["pixels"]["mean"] < 0.2


def test_constant_images_and_constant_embeddings_find_nothing(targets):
    images = real([case.real for case in CASES])
    cells = scored(images, targets, constant=lambda x: np.ones((len(x), 3)))
    assert cells["constant"]["mean"] == 0.0  # a tie is not found


def test_a_target_is_told_from_one_image_of_each_other_character(targets):
    characters = {case.real: case.character for case in CASES}
    for own, choices in targets.choices.items():
        assert choices[0] == own
        assert sorted(characters[position] for position in choices) == list(range(CHARACTERS))
    assert targets.count == CHARACTERS
    assert Targets.of(CASES, real).choices == targets.choices


def test_at_most_so_many_targets():
    cases = [dataclasses.replace(CASES[0], character=i, real=i) for i in range(100)]
    found = Targets.of(cases, real)
    assert {len(set(choices)) for choices in found.choices.values()} == {nearest.TARGETS}


def test_without_two_characters_there_is_nothing_to_tell():
    assert Targets.of(CASES[:3], real) is None
    assert Targets.of([dataclasses.replace(c, real=None) for c in CASES], real) is None


def test_what_cannot_be_scored_is_counted(targets):
    images = real([case.real for case in CASES])
    images[4] = np.nan
    cases = [*CASES[:-1], dataclasses.replace(CASES[-1], real=None)]
    cell = scored(images, targets, cases, flat=lambda x: x.reshape(len(x), -1))["flat"]
    assert cell["unscored"] == 1 and cell["mean"] == 1.0
    assert cell["images"].count(None) == 2 and cell["images"].count(True) == 34
    nothing = scored(np.full_like(images, np.nan), targets)["pixels"]
    assert nothing["mean"] is None and nothing["unscored"] == 36
    text = table({"targets": 12, "chance": 1 / 12, "rows": {"x": {"pixels": nothing}}})
    assert "chance 8.3" in text and "| x | – | 36 |" in text
