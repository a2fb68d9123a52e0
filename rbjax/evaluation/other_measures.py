"""What is measured beside the table: similarity, nearest of N, copying; truth where it is known.

Of a model also what its guidance trades.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rbjax.evaluation import (
    avatars_truth,
    copying,
    guidance_curve,
    nearest,
    regions,
    similarity,
)
from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.embedders import FACE
from rbjax.evaluation.generator import CaseGenerator
from rbjax.evaluation.judging import Judging
from rbjax.evaluation.similarity import FindRegion
from rbjax.evaluation.suite import Suite
from rbjax.experiment.setup import Experiment
from rbjax.models.params import Tree

PRINTED = 10  # phrases that were not asked


def of_run(
    exp: Experiment,
    generator: CaseGenerator,
    judging: Judging,
    *,
    params: Tree | None,
    images: Mapping[str, SystemImages],
    cases: Suite,
    records: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Returns what `of_images` does, "truth" and "guidance"; null where it is not known.

    Args:
        exp: the experiment.
        generator: of the evaluation's split.
        judging: gives the embeddings.
        params: of the model; None = there is none.
        images: the rows.
        cases: of the suite.
        records: `results["scored"]`.
    """
    trained = images.get("trained")
    return of_images(
        judging,
        images=images,
        cases=cases,
        records=records,
        read_images=generator.read_images,
        region=regions.of_records(generator.read_record),
    ) | {
        "truth": None
        if trained is None
        else avatars_truth.of_run(
            exp.builder,
            generator.examples.split,
            trained,
            records["trained"],
            count=exp.config.eval.truth_images,
            embeddings=judging.embeddings,
        ),
        "guidance": None
        if params is None
        else guidance_curve.of_run(
            lambda some, guidance: generator.generate(params, some, guidance=guidance),
            cases,
            judging.vqa,
            sampling=exp.sampling,
            characters=exp.config.eval.guidance_characters,
            read_images=generator.read_images,
        ),
    }


def of_images(
    judging: Judging,
    *,
    images: Mapping[str, SystemImages],
    cases: Suite,
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    read_images: ReadImages,
    region: FindRegion,
) -> dict[str, Any]:
    """Returns {"nearest", "copying", "similarity"} of `results.json`.

    Args:
        judging: gives the embeddings.
        images: the rows.
        cases: of the suite.
        records: `results["scored"]`.
        read_images: reads real images.
        region: where they show concepts.
    """
    embedders = judging.embedders
    copied = copying.of_systems(images, read_images, judging.embeddings)
    if embedders.faces is not None:
        faces = regions.copying_of_faces(images, read_images, region, embedders.faces)
        copied = {name: cells | {FACE: faces[name]} for name, cells in copied.items()}
    return {
        "nearest": nearest.of_systems(images, cases.cases, read_images, judging.embeddings),
        "copying": copied,
        "similarity": similarity.of_systems(
            images,
            embedders,
            read_images=read_images,
            region=region,
            records=records,
            vocabulary=judging.vocabulary,
        ),
    }


def show(results: Mapping[str, Any]) -> None:
    """Prints the tables of what there is, and the phrases that were not asked."""
    records = [record for row in results["scored"].values() for record in row]
    unasked = sorted({phrase for record in records for phrase in record.get("unasked", ())})
    if unasked:
        shown = ", ".join(unasked[:PRINTED]) + (", ..." if unasked[PRINTED:] else "")
        print(
            f"P(yes) is without {len(unasked)} phrases that hold no word, one that the VQA model "
            f"does not know, or more than it reads: {shown}"
        )
    if results["similarity"]:
        print(similarity.table(results["similarity"]))
    if results["nearest"]:
        print(nearest.table(results["nearest"]))
