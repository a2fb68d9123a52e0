"""The report of an evaluation: one HTML page that carries its images with it."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from rbjax.evaluation import plots
from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.results import COLUMNS, label, percent
from rbjax.models.pixels import to_uint8
from rbjax.text.concepts import CONCEPTS

TITLE = "Composition from references"
TEMPLATE = "report.html.jinja"
COLUMN_NOTES = {
    "vqa_flexibility": (
        "↑ Does the image show what the prompt asks for? Share of the prompt's attributes for "
        "which the VQA model's answer is the wanted one."
    ),
    "p_yes": (
        "↑ The same question asked the other way: product over all phrases of the prompt of the "
        "probability that the VQA model says yes to each."
    ),
    "outfit_agreement": (
        "↑ Share of the outfit's attributes (clothing, its colour, its print) for which the VQA "
        "model gives the same answer as for the clothes references."
    ),
    "identity_agreement": (
        "↑ Share of the character's attributes (hair, its colour, skin, accessory, facial hair) "
        "for which it gives the same answer as for the face references."
    ),
    "leakage": (
        "↓ How often the image shows what a reference has beyond its concept (its expression and "
        "background; the clothes of the face's image), where something else is wanted. Chance is "
        "how often images of other characters show it."
    ),
    "seed_diversity": (
        "↑ With an empty prompt and the same references, do images of several seeds vary as real "
        "images of the character do? 100 is so, 0 is one real image again and again, below are "
        "constant answers that real images seldom have."
    ),
    "swd": (
        "↑ Similarity weighted diversity of the same images: mean over pairs of agreement with "
        "the references times difference. Copying scores 0, ignoring the references too."
    ),
}
SYSTEM_NOTES = {
    "trained": "The model, with prompt and references.",
    "references_blanked": "The same model, prompts and noise, without references.",
    "other_references": ("With another character's references, compared with the original ones."),
    "copy_reference": "No model: one of the references as it is. The most that leakage can be.",
    "paste": "No learning: face and clothes cut out and pasted on the prompt's colour.",
    "nearest_training": "No model: the training image with most of the tags that are asked for.",
    "real_images": (
        "Other images of the same character in the same outfit, scored by their own tags."
    ),
    "constant": "Control of the metrics: the prompt's background and nothing else.",
    "mean": "Control of the metrics: the mean of all references.",
    "noise": "Control of the metrics: noise.",
    "unchanged": "The model again, on the characters of the rows below.",
    "moved": "References moved to the side.",
    "scaled": "References made smaller.",
    "flipped": "References mirrored.",
    "loose": "References cropped with a larger box around the face.",
    "recolored": "References before another background.",
    "face_only": "No clothes references.",
    "clothes_only": "No face references.",
    "more_references": "One more reference for the face and one more for the clothes.",
    "cross_composition": "The face of one character in the clothes of another.",
}


def write(
    folder: Path | str,
    results: Mapping[str, Any],
    systems: Mapping[str, SystemImages],
    *,
    read_images: ReadImages,
    losses: Sequence[tuple[int, float]] = (),
    config: Mapping[str, Any] | None = None,
    characters: int = 8,
) -> Path:
    """Writes `folder/index.html` and returns its path.

    Args:
        folder: is made if it is missing.
        results: as `scoring.score` returns them.
        systems: as `baselines.collect` returns them, the same as were scored.
        read_images: reads references and real images.
        losses: (step, loss) pairs of the training.
        config: of the experiment; what `json` cannot write is written as `str` does.
        characters: how many characters are shown.
    """
    attributes = [pair for of in results["attributes"].values() for pair in of.items()]
    is_scored = bool(results["asked"] or results["phrases"])
    page = _template().render(
        title=TITLE,
        results=results,
        columns=COLUMNS,
        column_notes=COLUMN_NOTES,
        system_notes=SYSTEM_NOTES,
        is_scored=is_scored,
        bars=plots.bars(results, COLUMNS) if is_scored else None,
        loss_curve=plots.loss_curve(losses) if losses else None,
        examples=_examples(systems["trained"], read_images, characters)
        if "trained" in systems
        else None,
        attribute_kinds={name: value["kind"] for name, value in attributes},
        config_text=None
        if config is None
        else json.dumps(config, indent=2, default=str, ensure_ascii=False),
    )
    path = Path(folder) / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def data_uri(image: np.ndarray) -> str:
    """Returns an image [H, W, 3] in [-1, 1] as the `src` of an HTML image."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(buffer, "PNG", optimize=True)
    return png_uri(buffer.getvalue())


def png_uri(data: bytes) -> str:
    """Returns a PNG file as the `src` of an HTML image."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "label": label,
        "percent": percent,
        "data_uri": data_uri,
        "png_uri": png_uri,
    }
    return environment.get_template(TEMPLATE)


def _examples(
    trained: SystemImages, read_images: ReadImages, characters: int
) -> list[dict[str, list[tuple[np.ndarray, str]]]]:
    """Returns for each character images with captions: references, generated ones, targets."""
    pairs = zip(trained.cases, trained.images, strict=True)
    groups = [list(group) for _, group in groupby(pairs, key=lambda pair: pair[0].character)]
    examples = []
    for group in groups[:characters]:
        case = group[0][0]
        names = [CONCEPTS[concept] for concept in case.concepts]
        real = [other.real for other, _ in group if other.real is not None]
        examples.append(
            {
                "references": list(zip(read_images(case.references), names, strict=True)),
                "generated": [(image, ", ".join(other.prompt)) for other, image in group],
                "targets": [(image, "") for image in (read_images(real) if real else ())],
            }
        )
    return examples
