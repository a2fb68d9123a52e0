"""The results of an evaluation: what `results.json` holds, and its table.

Systems that are compared (the rows), in this order, each optional:

* `trained`: the model, with prompt and references;
* `references_blanked`: the same model, prompts and noise, without references;
* `other_references`: with another character's references, scored against the case's own;
* `copy_reference`: no model; one of the case's references, entire (clothes if there are any), as
  it is: the most that leakage can be;
* `paste`: no learning; face and clothes cut out of the references and pasted on the prompt's
  colour;
* `nearest_training`: no model; the training image that has most of the tags that are asked for;
* `real_images`: images of the same character in the same outfit that are no references, scored by
  their own tags instead of the case's prompt: the most that a model can reach, but for SWD, as
  those of open cases wear any outfit;
* `constant` (the prompt's colour and nothing else), `mean` (the mean of all references), `noise`:
  controls of the metrics themselves, on a part of the characters;
* `unchanged`, `moved`, `scaled`, `flipped`, `loose`, `recolored`, `face_only`, `clothes_only`,
  `more_references`, `cross_composition`: the model on a part of the cases, with changed references
  (rbjax/evaluation/variants.py). But for the last these should score alike.

Columns, each the mean over characters; higher is better, but for leakage:

* `vqa_flexibility`: share of the prompt's free attributes (that no reference carries) for which
  the answer is the wanted one; of two tags of one attribute the last one is wanted;
* `p_yes`: product over all phrases of the prompt of P(yes) / (P(yes) + P(no)), but for those that
  hold no word (`^_^`), are longer than the VQA model reads or have a word that it does not know:
  these are counted in `unscored`, and named in `scored`;
* `outfit_agreement`, `identity_agreement`: share of the outfit's (or the character's) attributes
  for which the answer is the same as for the references. The latter is the majority of the
  answers on entire images of those references that are given for the clothes (or the face, or the
  entire character), at the generated size. Asked is what a tag of these references says;
* `leakage`: of the attributes for which a reference shows, beyond the concept that it was given
  for, something else than what is wanted: the share for which the image shows that. `chance` is
  the same share for the row's images of other characters, which were not made from them;
* `seed_diversity`: with an empty prompt and the same references, do images of several seeds vary
  as real images of that character do? 1: their answers are distributed alike; 0: as one real image
  again and again (rbjax/metrics/diversity.py). Asked are the free attributes that the tags of all
  these real images answer; where tags only ever say yes, an image without such a tag means no, and
  the tag of one image is enough;
* `swd`: mean over pairs of the same images of the product of their agreements with the references
  and of the share of free attributes in which they differ (rbjax/metrics/swd.py).

"What ...?" is asked where the VQA model is reliable at the generated size, everything if nothing is
known of its accuracy; "is there ...?" of every phrase of a prompt that it can read. An answer that
is no word is wrong; it is never a reference's value. An image that is not finite, or that is
missing, has no value in any column, and is counted in `unscored`.

What `scoring.score` returns is JSON; these keys stay:

    {"schema": 2, "size": int, "characters": int, "cases": int, "confidence": 0.95,
     "asked": [attribute, ...], "phrases": [attribute for which yes or no is reliable, ...],
     "rows": {row: {column: cell | null}}, "images": {row: int},
     "unscored": {row: {reason: int}},
     "attributes": {row: {attribute: {"kind": str, "share": float, "images": int}}},
     "confusion": {row: {attribute: {wanted: {given: int}}}},
     "variety": {row: {attribute: {"generated" or "real": {answer: int}}}},
     "scored": {row: [what an image should show and shows, ...]},
     "real_answers": {position: {attribute: answer}}, "real_variety": {character: [position, ...]},
     "real_no_words": int,
     "separability": {concept: {kind: cell with "wanted" | null}} (of cross_composition) | null,
     "dataset": name in TFDS, "suite": split (both of a suite's cases),
     "files": {position: digest of its file's content, box and tags} (of cases of manifests),
     "judge": see judging.Judging.record, "questions": see its coverage,
     "nearest": as nearest.score returns | null, "copying": {row: {embedding: cell | null}},
     "similarity": {row: {column: cell | null}} of a user's models (similarity.py) | null,
     "truth": as truth.compare returns | null,
     "guidance": as guidance_curve.of_run returns | null,
     "out_of_domain": {"suite": split, ... these keys of some rows} | null}

    cell = {"mean": float, "low": float, "high": float, "seeds": [mean of each sampling seed, ...],
            "unscored": int, "chance": float (of leakage)}

A cell is null where nothing can be scored (no clothes references, no image that is finite).
`attributes` separates where a score comes from: the share of images with the expected answer (the
prompt's, or the references'). In `scored` everything is there to compute the columns again.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = (
    "vqa_flexibility",
    "p_yes",
    "outfit_agreement",
    "identity_agreement",
    "leakage",
    "seed_diversity",
    "swd",
)
SCHEMA = 2
LABELS = {
    **{"p_yes": "P(yes)", "vqa_flexibility": "VQA flexibility", "swd": "SWD"},
    **{"clip_i": "CLIP-I", "clip_i_face": "CLIP-I face", "clip_i_clothes": "CLIP-I clothes"},
    **{"clip_t": "CLIP-T", "dino": "DINO", "dino_face": "DINO face"},
    "dino_clothes": "DINO clothes",
}


def dumps(results: Mapping[str, Any]) -> str:
    """Returns the text of `results.json`: a line a key, because entries of images are many."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}"
        for key, value in results.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def table(results: Mapping[str, Any], systems: Iterable[str] | None = None) -> str:
    """Returns systems and columns as an aligned Markdown table: percent, with intervals.

    Args:
        results: as `scoring.score` returns them.
        systems: the rows to show; all by default.
    """
    cells = [["", *map(label, COLUMNS), "unscored images"]]
    shown = results["rows"] if systems is None else systems
    for system in (name for name in results["rows"] if name in shown):
        columns = results["rows"][system]
        row = [label(system), *(percent(columns[name]) for name in COLUMNS)]
        cells.append([*row, str(unscored_images(results, system))])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    )


def unscored_images(results: Mapping[str, Any], system: str) -> int:
    """Returns how many images of a row could not be asked about."""
    return sum(bool(image.get("fault")) for image in results["scored"][system])


def label(name: str) -> str:
    """Returns the name of a system or column in a table."""
    return LABELS.get(name, name.replace("_", " "))


def percent(value: Mapping[str, Any] | None) -> str:
    """Returns `mean [low, high]` in percent, with the chance level where there is one."""
    if value is None:
        return "–"
    mean, low, high = (100 * value[name] for name in ("mean", "low", "high"))
    chance = f", chance {100 * value['chance']:.0f}" if "chance" in value else ""
    return f"{mean:.1f} [{low:.1f}, {high:.1f}{chance}]"
