"""The TFDS builder `avatars`: RetriBooru's features, and the truth."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from tfds_retribooru import array_record, clusters, vocabulary
from tfds_retribooru.avatars import attributes, characters, drawing
from tfds_retribooru.avatars.characters import Portrait


@dataclasses.dataclass
class AvatarsConfig(tfds.core.BuilderConfig):
    """Size and variation of the data set.

    Attributes:
        characters: how many; each has 3 outfits of 4 images.
        varied: whether flip, position and scale vary.
        seed: of every choice.
    """

    characters: int = 1000
    varied: bool = False
    seed: int = 0


class Builder(tfds.core.GeneratorBasedBuilder):
    """Illustrated avatars with known identity, outfit and expression."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.0.0": "First release.",
        "1.1.0": "No character of test looks like another one.",
    }
    BUILDER_CONFIGS = [
        AvatarsConfig(name="centered", description="Figures in one place."),
        AvatarsConfig(name="varied", varied=True, description="Flipped, moved, scaled."),
        AvatarsConfig(name="tiny", characters=24, description="As centered, for trying out."),
    ]

    def __init__(self, **kwargs):
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self) -> tfds.core.DatasetInfo:
        size, f = drawing.SIZE, tfds.features
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

    def _split_generators(self, dl_manager):
        splits = characters.splits(self.builder_config.characters, self.builder_config.seed)
        return {name: self._generate_examples(part) for name, part in splits.items()}

    def _generate_examples(self, part: list[tuple[int, int]]):
        config = self.builder_config
        for portrait, image, mask in drawing.draw_all(config.seed, part, config.varied):
            yield portrait.id, record(portrait, image, mask)

    def _as_dataset(self, split, decoders=None, read_config=None, shuffle_files=False):
        return array_record.as_dataset(self, split, decoders, read_config, shuffle_files)

    def download_and_prepare(self, **kwargs) -> None:
        """Builds the records and, beside them, the clusters and the vocabulary."""
        super().download_and_prepare(**kwargs)
        clusters.write(self)
        vocabulary.write(self.data_path, attributes.vocabulary)


def record(portrait: Portrait, image: bytes, mask: bytes) -> dict:
    """The TFDS example of a portrait."""
    numbers = portrait.character, portrait.outfit
    return {
        "id": portrait.id,
        "character": portrait.name,
        "artists": "python_avatars",
        "image": image,
        "mask": mask,
        "bbox": drawing.face_box(portrait),
        "cloths": attributes.tags(portrait.values, ["outfit"]),
        "similar": [
            characters.id_of(*numbers, i) for i in range(characters.IMAGES) if i != portrait.image
        ],
        "prompts": ", ".join(["solo", *attributes.tags(portrait.values)]),
        "attributes": portrait.values,
    }
