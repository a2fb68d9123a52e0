"""Judges images with the VQA model, row by row, and gives every number its interval.

Rows, in this order (each optional):

* `trained`: the model, with prompt and references;
* `references_blanked`: the same model, prompts and noise, without references;
* `other_references`: with another character's references, judged against the case's own;
* `copy_reference`: no model; one of the case's references, whole (clothes if there are any), as
  it is: the most that leakage can be;
* `real_images`: images of the same character in the same outfit that are no references, judged by
  their own tags instead of the case's prompt: the most that a model can reach.

Columns, each the mean over characters:

* `vqa_flexibility`: mean cosine between the embedding of the answer and that of the wanted answer;
* `vqa_diversity`: mean pairwise (1 - cosine) of the answers to one question over the images made
  from the same references;
* `p_yes`: product over the prompt's phrases of P(yes) / (P(yes) + P(no)), of the phrases to which
  the VQA model's yes or no can be trusted at this size;
* `outfit_agreement`, `identity_agreement`: share of the outfit's (or the character's) attributes
  for which the answer is the same as for the references. The latter is the majority of the
  answers on whole images of those references that are given for the clothes (or the face, or the
  whole character), at the generated size. Asked is what a tag of these references says;
* `leakage`: of the free attributes, share that shows a reference's value, not the prompt's.

Only questions that the VQA model is good at, at the generated size, are asked. What `evaluate`
returns is JSON; these keys stay:

    {"schema": 1, "size": int, "characters": int, "cases": int, "confidence": 0.95,
     "asked": [attribute, ...], "phrases": [attribute, ...],
     "rows": {row: {column: {"mean": float, "low": float, "high": float} | null}},
     "images": {row: int},
     "attributes": {row: {attribute: {"kind": str, "share": float}}}}

`null` stands for a column with nothing to judge (no clothes references, one image a character).
`attributes` tells apart where a score comes from: the share of images with the right answer (the
prompt's, or the references').
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbjax.evaluation.baselines import ROWS, Generate, Images, Row, collect
from rbjax.evaluation.scoring import VQA, Interview, judge
from rbjax.evaluation.suite import Suite
from rbjax.metrics import bootstrap

COLUMNS = (
    "vqa_flexibility",
    "vqa_diversity",
    "p_yes",
    "outfit_agreement",
    "identity_agreement",
    "leakage",
)
SCHEMA = 1


def evaluate(
    generate: Generate,
    suite: Suite,
    images: Images,
    vqa: VQA,
    rows: Sequence[str] = ROWS,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Makes and judges rows; the module's docstring describes what comes back.

    Use `collect` and `score` themselves to keep the images.

    Args:
        generate: the model.
        suite: the cases.
        images: positions of records to their whole images at the generated size.
        vqa: the judge.
        rows: some of ROWS.
        resamples: of the bootstrap.
    """
    return score(collect(generate, suite, images, rows), suite, images, vqa, resamples)


def score(
    rows: Mapping[str, Row], suite: Suite, images: Images, vqa: VQA, resamples: int = 2000
) -> dict[str, Any]:
    """Judges rows; the module's docstring describes what comes back.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("there is no row of images to judge.")
    size = next(iter(rows.values())).images.shape[1]
    interview = Interview.start(suite, images, vqa, size)
    judged = {name: judge(row, interview) for name, row in rows.items()}
    return {
        "schema": SCHEMA,
        "size": int(size),
        "characters": len({case.character for case in suite.cases}),
        "cases": len(suite.cases),
        "confidence": bootstrap.CONFIDENCE,
        "asked": sorted(interview.asked),
        "phrases": sorted(interview.phrases),
        "rows": {
            name: {column: _interval(row.columns[column], resamples) for column in COLUMNS}
            for name, row in judged.items()
        },
        "images": {name: len(row.cases) for name, row in rows.items()},
        "attributes": {name: dict(row.attributes) for name, row in judged.items()},
    }


def _interval(values: Sequence[float], resamples: int) -> dict[str, float] | None:
    if not len(values):
        return None
    names = ("mean", "low", "high")
    return dict(zip(names, bootstrap.interval(np.array(values), 0, resamples), strict=True))


def table(results: Mapping[str, Any]) -> str:
    """Returns rows and columns as an aligned Markdown table: percent, with intervals."""
    cells = [["", *map(label, COLUMNS)]]
    for row, columns in results["rows"].items():
        cells.append([label(row), *(percent(columns[name]) for name in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    )


def label(name: str) -> str:
    """Returns how a row or column is called in a table."""
    return {"p_yes": "P(yes)"}.get(name, name.replace("vqa", "VQA").replace("_", " "))


def percent(value: Mapping[str, float] | None) -> str:
    """Returns `mean [low, high]` in percent."""
    if value is None:
        return "–"
    mean, low, high = (100 * value[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
