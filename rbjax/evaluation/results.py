"""The results of an evaluation: what `results.json` holds, and its table.

Systems that are compared (the rows), in this order, each optional:

* `trained`: the model, with prompt and references;
* `references_blanked`: the same model, prompts and noise, without references;
* `other_references`: with another character's references, scored against the case's own;
* `copy_reference`: no model; one of the case's references, entire (clothes if there are any), as
  it is: the most that leakage can be;
* `real_images`: images of the same character in the same outfit that are no references, scored by
  their own tags instead of the case's prompt: the most that a model can reach.

Columns, each the mean over characters:

* `vqa_flexibility`: mean cosine between the embedding of the answer and that of the expected one;
* `vqa_diversity`: mean pairwise (1 - cosine) of the answers to one question over the images made
  from the same references;
* `p_yes`: product over the prompt's phrases of P(yes) / (P(yes) + P(no)), of the phrases for which
  the VQA model's yes or no is reliable at this size;
* `outfit_agreement`, `identity_agreement`: share of the outfit's (or the character's) attributes
  for which the answer is the same as for the references. The latter is the majority of the
  answers on entire images of those references that are given for the clothes (or the face, or the
  entire character), at the generated size. Asked is what a tag of these references says;
* `leakage`: of the free attributes, share that shows a reference's value, not the prompt's.

Only questions for which the VQA model is reliable at the generated size are asked; all, if nothing
is known of its accuracy. What `scoring.score` returns is JSON; these keys stay:

    {"schema": 1, "size": int, "characters": int, "cases": int, "confidence": 0.95,
     "asked": [attribute, ...], "phrases": [attribute, ...],
     "rows": {row: {column: {"mean": float, "low": float, "high": float} | null}},
     "images": {row: int},
     "attributes": {row: {attribute: {"kind": str, "share": float}}}}

`null` stands for a column that is undefined (no clothes references, one image a character).
`attributes` separates where a score comes from: the share of images with the expected answer (the
prompt's, or the references').
"""

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    "vqa_flexibility",
    "vqa_diversity",
    "p_yes",
    "outfit_agreement",
    "identity_agreement",
    "leakage",
)
SCHEMA = 1


def table(results: Mapping[str, Any]) -> str:
    """Returns systems and columns as an aligned Markdown table: percent, with intervals."""
    cells = [["", *map(label, COLUMNS)]]
    for system, columns in results["rows"].items():
        cells.append([label(system), *(percent(columns[name]) for name in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    )


def label(name: str) -> str:
    """Returns the name of a system or column in a table."""
    return {"p_yes": "P(yes)"}.get(name, name.replace("vqa", "VQA").replace("_", " "))


def percent(value: Mapping[str, float] | None) -> str:
    """Returns `mean [low, high]` in percent."""
    if value is None:
        return "–"
    mean, low, high = (100 * value[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
