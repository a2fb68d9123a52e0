"""What is measured beside the table: nearest of N, copying, and the truth where it is known."""

from collections.abc import Mapping, Sequence
from typing import Any

from rbjax.evaluation import avatars_truth, copying, nearest
from rbjax.evaluation.baselines import SystemImages
from rbjax.evaluation.generator import CaseGenerator
from rbjax.evaluation.judging import Judging
from rbjax.evaluation.suite import Suite
from rbjax.experiment.setup import Experiment


def of_run(
    exp: Experiment,
    generator: CaseGenerator,
    judging: Judging,
    *,
    images: Mapping[str, SystemImages],
    cases: Suite,
    records: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Returns {"nearest", "copying", "truth"} of `results.json`; null for what cannot be measured.

    Args:
        exp: the experiment.
        generator: of the evaluation's split.
        judging: whose features are an embedding.
        images: the rows.
        cases: of the suite.
        records: `results["scored"]`.
    """
    embeddings = {"judge's features": judging.embed}
    trained = images.get("trained")
    return {
        "nearest": nearest.of_systems(images, cases.cases, generator.read_images, embeddings),
        "copying": copying.of_systems(images, generator.read_images, embeddings),
        "truth": None
        if trained is None
        else avatars_truth.of_run(
            exp.builder,
            generator.examples.split,
            trained,
            records["trained"],
            count=exp.config.eval.truth_images,
        ),
    }
