"""The TFDS builder `avatars`: RetriBooru's features, and the attributes of every image."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import BuilderConfig

from tfds_retribooru.avatars import attributes, characters, drawing, held_out, portraits
from tfds_retribooru.avatars.characters import Character, Population
from tfds_retribooru.avatars.portraits import Portrait
from tfds_retribooru.building import base
from tfds_retribooru.vocabulary import Vocabulary


@dataclasses.dataclass
class AvatarsConfig(BuilderConfig):
    """Size and variation of the data set.

    Attributes:
        characters: how many; each has 3 outfits of 4 images.
        varied: whether flip, position and scale vary.
        whole: whether the entire drawing is shown instead.
        seed: of every choice.
        holds_out: see `characters.Population`.
        size: pixels of an image's side.
    """

    characters: int = 1000
    varied: bool = False
    whole: bool = False
    seed: int = 0
    holds_out: bool = True
    size: int = drawing.SIZE

    @property
    def population(self) -> Population:
        """Which characters there are."""
        return Population(self.seed, self.characters, self.holds_out)


class Builder(base.ArrayRecordBuilder):
    """Illustrated avatars with known identity, outfit and expression."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {
        "1.0.0": "First release.",
        "1.1.0": "No character of test looks like another one.",
        "2.0.0": "Unseen characters in validation too; values and combinations held out for "
        "test_out_of_domain; nobody looks like another one; figures of varied move further.",
        "2.1.0": "Three times as many characters in whole; the other configs are those of 2.0.0.",
    }
    BUILDER_CONFIGS = [
        AvatarsConfig(name="centered", description="Figures in one place."),
        AvatarsConfig(name="varied", varied=True, description="Flipped, moved, scaled."),
        AvatarsConfig(
            name="varied_256", varied=True, size=256, description="As varied, 256 pixels."
        ),
        AvatarsConfig(
            name="base",
            characters=2000,
            varied=True,
            seed=1,
            holds_out=False,
            description="As varied, other characters, nothing held out: for a base model.",
        ),
        AvatarsConfig(
            name="whole",
            version=tfds.core.Version("2.1.0"),
            characters=1200,
            whole=True,
            seed=2,
            holds_out=False,
            size=176,
            description="Entire drawings of other characters, to be framed by who reads them.",
        ),
        AvatarsConfig(name="tiny", characters=24, description="As centered, for trying out."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        size, f = self.builder_config.size, tfds.features
        labels = {
            name: f.ClassLabel(names=list(attribute.values))
            for name, attribute in attributes.ATTRIBUTES.items()
        }
        features = {
            "id": f.Text(doc="decimal number"),
            "character": f.Text(),
            "artists": f.Text(),
            "image": f.Image(shape=(size, size, 3), encoding_format="png"),
            "mask": f.Image(shape=(size, size, 1), encoding_format="png", doc="figure, soft"),
            "bbox": f.Tensor(
                shape=(4,), dtype=np.float32, doc="face: centre x, centre y, width, height in [0,1]"
            ),
            "cloths": f.Sequence(f.Text(), doc="clothing tags"),
            "similar": f.Sequence(f.Text(), doc="ids of the same character in the same outfit"),
            "prompts": f.Text(doc="comma-joined tags"),
            "attributes": f.FeaturesDict(labels),
        }
        return self.dataset_info_from_configs(features=f.FeaturesDict(features))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        splits = characters.splits(self.builder_config.population)
        return {name: self._generate_examples(people) for name, people in splits.items()}

    def _generate_examples(
        self, people: Iterable[Character]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        drawings = drawing.draw_all(
            config.seed, people, varied=config.varied, whole=config.whole, size=config.size
        )
        for portrait, image, mask in drawings:
            yield portrait.id, example(portrait, image, mask)

    def _vocabulary(self) -> Vocabulary:
        config = self.builder_config
        rare = held_out.vocabulary(config.seed) if config.holds_out else {}
        return {**attributes.vocabulary(), "held_out": rare}


def example(portrait: Portrait, image: bytes, mask: bytes) -> dict[str, Any]:
    """Returns what TFDS stores of a portrait."""
    numbers = portrait.character.number, portrait.outfit
    return {
        "id": portrait.id,
        "character": portrait.character.name,
        "artists": "python_avatars",
        "image": image,
        "mask": mask,
        "bbox": drawing.face_box(portrait),
        "cloths": attributes.tags(portrait.values, ["outfit"]),
        "similar": [
            portraits.id_of(*numbers, i) for i in range(portraits.IMAGES) if i != portrait.image
        ],
        "prompts": ", ".join(["solo", *attributes.tags(portrait.values)]),
        "attributes": portrait.values,
    }
