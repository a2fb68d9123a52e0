"""The report of an evaluation: one HTML page that carries its images with it.

It is drawn from `results.json` and from the images that are saved beside it, and can be drawn
again from them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from rbjax import storage
from rbjax.evaluation import plots, report_parts, saved_images, similarity
from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.results import COLUMNS, label, percent, unscored_images
from rbjax.storage import StoredPath

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
    "more_references": (
        "One more reference for the face and one more for the clothes, where they show and hide "
        "nothing that the prompt asks for."
    ),
    "cross_composition": "The face of one character in the clothes of another.",
}


def write(
    folder: StoredPath | str,
    results: Mapping[str, Any],
    systems: Mapping[str, SystemImages],
    *,
    read_images: ReadImages,
    losses: Sequence[tuple[int, float]] = (),
    config: Mapping[str, Any] | None = None,
    characters: int = 8,
) -> StoredPath:
    """Saves all images, writes `folder/index.html` and returns its path.

    Args:
        folder: is made if it is missing.
        results: as `scoring.score` returns them.
        systems: as `baselines.collect` returns them, the same as were scored.
        read_images: reads references and real images.
        losses: (step, loss) pairs of the training.
        config: of the experiment; what `json` cannot write is written as `str` does.
        characters: how many characters are shown.
    """
    folder = Path(folder) if isinstance(folder, str) else folder
    saved_images.save(folder, systems, read_images)
    return draw(folder, results, losses=losses, config=config, characters=characters)


def draw(
    folder: StoredPath | str,
    results: Mapping[str, Any],
    *,
    losses: Sequence[tuple[int, float]] = (),
    config: Mapping[str, Any] | None = None,
    characters: int = 8,
) -> StoredPath:
    """Writes `folder/index.html` from results and saved images; arguments as of `write`."""
    folder = Path(folder) if isinstance(folder, str) else folder
    kinds = [pair for of in results["attributes"].values() for pair in of.items()]
    groups = report_parts.groups(results)
    page = _template().render(
        title=TITLE,
        results=results,
        unscored_images=unscored_images,
        zip=zip,
        columns=COLUMNS,
        column_notes=COLUMN_NOTES,
        similarity_notes=similarity.NOTES,
        notes=SYSTEM_NOTES,
        groups=groups,
        is_scored=bool(results["asked"] or results["phrases"]),
        bars=report_parts.bars(results, groups["compared"]),
        seeds=report_parts.seeds(results, groups["compared"]),
        loss_curve=report_parts.png_uri(plots.loss_curve(losses)) if losses else None,
        examples=report_parts.examples(folder, results, characters),
        extremes=report_parts.extremes(folder, results),
        strips=report_parts.strips(folder, results),
        confusions={
            row: report_parts.confusion(results, row)
            for row in ("trained", "real_images")
            if row in results["rows"]
        },
        variety=report_parts.variety(results, "trained"),
        guidance=report_parts.guidance(results),
        attribute_kinds={name: value["kind"] for name, value in kinds},
        config_text=None
        if config is None
        else json.dumps(config, indent=2, default=str, ensure_ascii=False),
    )
    path = folder / "index.html"
    storage.make_folder(folder)
    path.write_text(page, encoding="utf-8")
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"label": label, "percent": percent}
    return environment.get_template(TEMPLATE)
