"""What the builders of real data store, and in which sizes."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import BuilderConfig

SIDES = {"384": 384, "512": 512, "original": None}  # pixels of the shorter side, by configuration


@dataclasses.dataclass
class SizeConfig(BuilderConfig):
    """A configuration: how large images are stored.

    Attributes:
        side: pixels of the shorter side at most; None keeps the size.
    """

    side: int | None = None


def configs() -> list[SizeConfig]:
    """Returns the configurations of SIDES."""
    return [
        SizeConfig(
            name=name,
            side=side,
            description="Pictures as they are." if side is None else f"Shorter side {side} px.",
        )
        for name, side in SIDES.items()
    ]


VERSION = tfds.core.Version("1.2.0")
RELEASE_NOTES = {
    "1.2.0": "Clothes of small figures, as faces since 1.1.0, in the pixels of the original.",
    "1.1.0": "Small faces also as they were before the picture was shrunk.",
    "1.0.0": "First release.",
}


OLDER = [tfds.core.Version(name) for name in list(RELEASE_NOTES)[1:]]  # that are still read
CLOSE_UPS = {  # since which version, and what of it is stored
    "face": ("1.1.0", "a small face"),
    "clothes": ("1.2.0", "the clothes of a small figure"),
}


def features(version: tfds.core.Version) -> tfds.features.FeaturesDict:
    """Returns what a version stores of a record; as of `avatars`, without the attributes."""
    f = tfds.features
    kept: dict[str, tfds.features.FeatureConnector] = {}
    for name, (since, what) in CLOSE_UPS.items():
        if version >= since:
            doc = f"{what} and what is around it, of more pixels than `image` has of it"
            kept[name] = f.Image(shape=(None, None, 3), encoding_format="jpeg", doc=doc)
            doc = f"what `{name}` shows: box as `bbox`; zeros, and `{name}` one pixel, without"
            kept[f"{name}_frame"] = f.Tensor(shape=(4,), dtype=np.float32, doc=doc)
    return f.FeaturesDict(
        kept
        | {
            "id": f.Text(),
            "character": f.Text(),
            "artists": f.Text(),
            "image": f.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "mask": f.Image(
                shape=(None, None, 1),
                encoding_format="png",
                doc="figure, soft; of the image's size, or one black pixel without has_mask",
            ),
            "has_mask": f.Scalar(np.bool_),
            "bbox": f.Tensor(
                shape=(4,),
                dtype=np.float32,
                doc="face: centre x, centre y, width, height in [0,1]; zeros without has_bbox",
            ),
            "has_bbox": f.Scalar(np.bool_),
            "cloths": f.Sequence(f.Text(), doc="clothing tags"),
            "similar": f.Sequence(f.Text(), doc="ids of the same character in the same outfit"),
            "prompts": f.Text(doc="comma-joined tags"),
        }
    )
