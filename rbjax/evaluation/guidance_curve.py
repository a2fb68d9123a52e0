"""What guidance trades: agreement with the references, the prompt's, and diversity.

The model makes the images of some cases with other guidance: that for references changes while that
for the prompt is the run's own, and the other way round. All of it is one compiled program.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rbjax.diffusion.guidance import Sampling
from rbjax.evaluation import scoring
from rbjax.evaluation.asking import VQAModel
from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.suite import Case, Suite

VALUES = (1.0, 1.5, 2.0, 3.0, 5.0)
OVER_REFERENCES, OVER_PROMPT = "references", "prompt"
RESAMPLES = 200  # of the bootstrap
Guidance = tuple[float, float]  # for references, for the prompt
Generate = Callable[[Sequence[Case], Guidance], np.ndarray]


def of_run(
    generate: Generate,
    cases: Suite,
    vqa: VQAModel | None,
    *,
    sampling: Sampling,
    characters: int,
    read_images: ReadImages,
) -> dict[str, Any] | None:
    """Returns the curves; None where nothing is asked, or of no character.

    Args:
        generate: returns the images of cases with some guidance.
        cases: of the evaluation; of repeated ones the first is used.
        vqa: the model that is asked.
        sampling: the run's own.
        characters: how many of the first are asked for.
        read_images: reads real images.

    Returns:
        {"cases": count, "curves": {"references" or "prompt": [{"references": guidance,
         "prompt": guidance, column: cell | null, ...}, ...]}}, by rising guidance.
    """
    if vqa is None or not characters:
        return None
    named = list(dict.fromkeys(case.character for case in cases.cases))[:characters]
    chosen = tuple(c for c in cases.cases if c.character in named and not c.repeat)
    curves = points(sampling)
    every = dict.fromkeys(pair for pairs in curves.values() for pair in pairs)
    images = {_name(pair): SystemImages(generate(chosen, pair), chosen) for pair in every}
    rows = scoring.score(images, cases, vqa, read_images=read_images, resamples=RESAMPLES)["rows"]
    return {
        "cases": len(chosen),
        "curves": {name: [_point(p, rows) for p in pairs] for name, pairs in curves.items()},
    }


def points(sampling: Sampling) -> dict[str, list[Guidance]]:
    """Returns the guidance of each point of both curves, which meet at the run's own."""
    own = sampling.guidance_references, sampling.guidance_prompt
    return {
        OVER_REFERENCES: [(value, own[1]) for value in sorted({*VALUES, own[0]})],
        OVER_PROMPT: [(own[0], value) for value in sorted({*VALUES, own[1]})],
    }


def similarity(point: Mapping[str, Any]) -> float | None:
    """Returns the mean of the agreements with the references, those that there are."""
    cells = [point[name] for name in ("outfit_agreement", "identity_agreement") if point[name]]
    return sum(cell["mean"] for cell in cells) / len(cells) if cells else None


def _name(guidance: Guidance) -> str:
    return f"{guidance[0]} {guidance[1]}"


def _point(guidance: Guidance, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    named = dict(zip((OVER_REFERENCES, OVER_PROMPT), guidance, strict=True))
    return named | dict(rows[_name(guidance)])
