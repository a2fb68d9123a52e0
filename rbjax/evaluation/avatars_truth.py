"""The truth about a run on avatars: its images beside drawings of what was asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from rbjax.data.dataset import Split
from rbjax.evaluation import truth
from rbjax.evaluation.baselines import SystemImages
from rbjax.evaluation.copying import Embed
from rbjax.models.pixels import to_uint8
from tfds_retribooru.avatars import characters

NAME = "avatars"  # of the data set


def of_run(
    builder: tfds.core.DatasetBuilder,
    split: Split,
    system: SystemImages,
    records: Sequence[Mapping[str, Any]],
    *,
    count: int,
    embeddings: Mapping[str, Embed],
) -> dict[str, Any] | None:
    """Returns `truth.compare` of a system's first images, one a character.

    None where there is nothing to compare: the data set is none of avatars, or `count` is 0.

    Args:
        builder: of the data set.
        split: that the suite is about.
        system: the images.
        records: what `results["scored"]` holds of them.
        count: how many images at most.
        embeddings: in which images and drawings are compared.
    """
    if builder.name != NAME or not count:
        return None
    config = builder.builder_config
    avatars = truth.Avatars(
        config.seed,
        characters.characters(config.population),
        config.varied,
        split.vocabulary,
        lambda position: split.records[position]["id"].decode(),
    )
    first: dict[int, int] = {}
    for number, (case, record) in enumerate(zip(system.cases, records, strict=True)):
        if record.get("given") and not case.is_open:
            first.setdefault(case.character, number)
    chosen = list(first.values())[:count]
    return truth.compare(
        [(system.cases[i], to_uint8(system.images[i]), records[i]["given"]) for i in chosen],
        avatars,
        embeddings,
    )
