"""Scores of images by a VQA model, as `results.json` holds them."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbjax.evaluation import columns as columns_lib
from rbjax.evaluation import separability
from rbjax.evaluation.asking import AskedImage, Asker, VQAModel, image_faults
from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.columns import CHANCE, OF_AN_IMAGE, Column
from rbjax.evaluation.results import COLUMNS, SCHEMA
from rbjax.evaluation.suite import Case, Suite
from rbjax.evaluation.variants import CROSS
from rbjax.metrics import bootstrap
from rbjax.text.concepts import CONCEPTS


def score(
    systems: Mapping[str, SystemImages],
    suite: Suite,
    vqa: VQAModel | None,
    *,
    read_images: ReadImages,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Scores systems; `rbjax/evaluation/results.py` describes what it returns.

    Args:
        systems: as `baselines.collect` returns them.
        suite: the cases; it knows the tags of all references of the systems' cases.
        vqa: the model that is asked; None if the data set has no questions: nothing is scored.
        read_images: reads real images.
        resamples: of the bootstrap.

    Raises:
        ValueError: there is no system.
    """
    if not systems:
        raise ValueError(
            "there are no images to score: give at least one system of baselines.SYSTEMS"
        )
    size = int(next(iter(systems.values())).images.shape[1])
    asker = None
    if vqa is not None:
        cases = [case for system in systems.values() for case in system.cases]
        asker = Asker.create(suite, vqa, read_images=read_images, size=size, cases=cases)
    reliable = vqa.phrases_at(size) if vqa is not None else set()
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "size": size,
        "characters": len({case.character for case in suite.cases}),
        "cases": len(suite.cases),
        "confidence": bootstrap.CONFIDENCE,
        "asked": sorted(asker.asked) if asker else [],
        "phrases": sorted(suite.vocabulary["questions"] if reliable is None else reliable),
        "images": {name: len(system.cases) for name, system in systems.items()},
    }
    results["separability"] = None
    scored = {}
    for name, system in systems.items():
        if asker is None:
            scored[name] = _unscored(system)
            continue
        images = asker.ask_system(system)
        scored[name] = _score(images, asker, resamples)
        if name == CROSS:
            results["separability"] = separability.matrix(images, asker, resamples)
    parts = next(iter(scored.values())).keys()
    results |= {part: {name: row[part] for name, row in scored.items()} for part in parts}
    return results | _real(asker)


def _unscored(system: SystemImages) -> dict[str, Any]:
    """Returns the part of a row about which nobody is asked: no column has a value."""
    columns: dict[str, Any] = dict.fromkeys(COLUMNS)
    faults = image_faults(system)
    pairs = zip(system.cases, faults, strict=True)
    return {
        "rows": columns,
        **dict.fromkeys(("attributes", "confusion", "variety"), {}),
        "unscored": dict(sorted(Counter(filter(None, faults)).items())),
        "scored": [case_record(case) | {"fault": fault} for case, fault in pairs],
    }


def _score(images: Sequence[AskedImage], asker: Asker, resamples: int) -> dict[str, Any]:
    """Returns the part of a row in `results.json`, by key."""
    values = columns_lib.of_images(images)
    return {
        "rows": _columns(images, values, asker, resamples),
        "attributes": columns_lib.shares(images),
        "confusion": columns_lib.confusion(images),
        "variety": columns_lib.variety(images, asker),
        "unscored": columns_lib.unscored(images),
        "scored": [_record(*pair) for pair in zip(images, values, strict=True)],
    }


def case_record(case: Case) -> dict[str, Any]:
    """Returns a case as `results.json` holds it."""
    return dataclasses.asdict(case) | {
        "references": list(case.references),
        "concepts": [CONCEPTS[concept] for concept in case.concepts],
        "prompt": list(case.prompt),
    }


def _columns(
    images: Sequence[AskedImage],
    values: Sequence[Mapping[str, float]],
    asker: Asker,
    resamples: int,
) -> dict[str, Any]:
    """Returns the cells of a row."""
    prompted = [i for i, image in enumerate(images) if not image.case.is_open]
    characters = [images[i].case.character for i in prompted]
    repeats = [images[i].case.repeat for i in prompted]
    cells = {
        name: Column([values[i][name] for i in prompted], characters, repeats).summary(resamples)
        for name in (*OF_AN_IMAGE, CHANCE)
    }
    for name, found in columns_lib.of_open_cases(images, asker).items():
        cells[name] = Column(found, range(len(found)), [0] * len(found)).summary(resamples)
    chance = cells.pop(CHANCE)
    if cells["leakage"] and chance:
        cells["leakage"]["chance"] = chance["mean"]
    return {name: cells[name] for name in COLUMNS}


def _record(image: AskedImage, values: Mapping[str, float]) -> dict[str, Any]:
    """Returns what `results.json` holds of an image; a value that is not scored is null."""
    return case_record(image.case) | {
        "expected": image.expected,
        "given": image.given,
        "unwanted": image.unwanted,
        "phrases": image.phrases,
        "unasked": list(image.unasked),
        "fault": image.fault,
        "columns": {name: None if np.isnan(value) else value for name, value in values.items()},
    }


def _real(asker: Asker | None) -> dict[str, Any]:
    """Returns what is known of the real images that others are compared with."""
    if asker is None:
        return {"real_answers": {}, "real_variety": {}, "real_no_words": 0}
    return {
        "real_answers": {str(p): answers for p, answers in asker.real_answers.items()},
        "real_variety": {str(c): list(images) for c, images in asker.suite.variety.items()},
        "real_no_words": asker.no_words(),
    }
