"""Every column ranks systems that are degraded by construction as their true quality does.

The same with avatars that are drawn and the VQA model that ships: scripts/benchmarks/columns.py.
"""

import numpy as np
import pytest
import scipy.stats

from rbjax.evaluation import results as results_lib
from rbjax.evaluation import suite as suite_lib
from tests.helpers.evaluation_world import NAMES, VALUES, vocabulary

LEVELS = (0, 0.1, 0.25, 0.4, 0.6, 0.8, 1)
FREE = ("eyes", "mouth", "background")
FAULT = {  # column -> what degrades the systems that it has to rank
    "vqa_flexibility": "wrong prompt",
    "p_yes": "wrong prompt",
    "outfit_agreement": "wrong outfit",
    "identity_agreement": "wrong identity",
    "leakage": "from references",
    "seed_diversity": "one image",
    "swd": "one image",
}
KIND = {"wrong prompt": "free", "wrong outfit": "outfit", "wrong identity": "identity"}


def put(images, name, rows, values):
    images[rows, NAMES.index(name)] = (np.asarray(values) / 16)[:, None, None]


def degrade(images, cases, world, fault, level):
    """Returns images in which a share `level` of what the fault concerns is wrong."""
    rng = np.random.default_rng(round(100 * level))
    opened = np.array([case.is_open for case in cases])
    for name in FREE:  # an empty prompt leaves these open
        put(images, name, opened, 1 + rng.integers(len(VALUES[name][1]), size=opened.sum()))
    for name in NAMES:
        shown = np.round(images[:, NAMES.index(name), 0, 0] * 16).astype(int)
        hit = (rng.random(len(images)) < level) & (shown > 0)
        if fault in KIND and VALUES[name][0] == KIND[fault] and len(VALUES[name][1]) > 1:
            put(images, name, hit, shown[hit] % len(VALUES[name][1]) + 1)
        if fault == "from references" and name in FREE:
            sources = [case.references[rng.integers(len(case.references))] for case in cases]
            images[hit & ~opened, NAMES.index(name)] = world.images(sources)[
                hit & ~opened, NAMES.index(name)
            ]
        if fault == "one image" and name in FREE:
            put(images, name, hit & opened, np.ones((hit & opened).sum()))
    return images


@pytest.mark.parametrize("column", results_lib.COLUMNS)
def test_a_column_ranks_degraded_systems_as_their_true_quality(world, vqa, column):
    suite = suite_lib.build(
        world.clusters, world.tags, vocabulary(), characters=12, open_characters=12
    )
    scores = []
    for level in LEVELS:

        def generate(cases, level=level):
            return degrade(world.generate(cases), cases, world, FAULT[column], level)

        results = world.evaluate(suite, vqa, ("trained",), generate=generate, resamples=2)
        scores.append(results["rows"]["trained"][column]["mean"])
    quality = [-level for level in LEVELS]
    rank = scipy.stats.spearmanr(scores, quality).statistic
    assert (-rank if column == "leakage" else rank) >= 0.9
