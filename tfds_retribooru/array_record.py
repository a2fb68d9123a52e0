"""Ways to read ArrayRecord files that TFDS lacks: as `tfds.load` does, and features one by one."""

import io
import pathlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds
from PIL import Image

if TYPE_CHECKING:
    import tensorflow as tf

IMAGES = ("image", "face", "clothes")


def builder_of(directory: pathlib.Path) -> tfds.core.DatasetBuilder:
    """Returns the builder of a built data set, from the directory of a version.

    Raises:
        FileNotFoundError: no data set is there; it names those below.
    """
    directory, info = directory.expanduser(), "dataset_info.json"
    if (directory / info).is_file():
        return tfds.builder_from_directory(directory)
    below = sorted(path.parent for k in (1, 2, 3) for path in directory.glob("*/" * k + info))
    hint = f": give {' or '.join(map(str, below))}" if below else ""
    raise FileNotFoundError(f"{directory} is not the directory of a built data set{hint}")


def as_dataset(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    decoders: Any = None,
    read_config: tfds.ReadConfig | None = None,
    shuffle: bool = False,
) -> "tf.data.Dataset":
    """Returns the records of a split as a tf.data.Dataset; for a builder's `_as_dataset`.

    Args:
        builder: of a data set in ArrayRecord files.
        split: as TFDS reads it, e.g. "train[:10%]".
        decoders: a tree of tfds.decode.Decoder as the features, or a PartialDecoding.
        read_config: its `shuffle_seed` is used.
        shuffle: shuffles the records, not only the files.
    """
    import tensorflow as tf  # only here: the rest of the package does without

    features = builder.info.features
    if isinstance(decoders, tfds.decode.PartialDecoding):
        features, decoders = decoders.extract_features(features), decoders.decoders
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    source = builder.as_data_source(split=split, deserialize_method=raw)
    positions = tf.data.Dataset.range(len(source))
    if shuffle:
        seed = read_config and read_config.shuffle_seed
        positions = positions.shuffle(len(source), seed)

    def read(i: "tf.Tensor") -> Any:
        record = tf.numpy_function(lambda k: source[int(k)], [i], tf.string)
        return features.deserialize_example(tf.ensure_shape(record, ()), decoders=decoders)

    return positions.map(read, num_parallel_calls=tf.data.AUTOTUNE)


class Part:
    """Some features of a split's records, by position; the others are not decoded.

    The features IMAGES are Pillow images, which decode themselves when their pixels are read.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, names: Iterable[str]) -> None:
        """Opens the split; names that the data set lacks are skipped."""
        features = builder.info.features
        known = {name: features[name] for name in names if name in features}
        self._features: Any = tfds.features.FeaturesDict(known)
        self._decoders = {name: tfds.decode.SkipDecoding() for name in IMAGES if name in known}
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._records = builder.as_data_source(split=split, deserialize_method=raw)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._features.deserialize_example_np(
            self._records[index], decoders=self._decoders
        )
        for name in self._decoders:
            record[name] = Image.open(io.BytesIO(record[name]))
        return record

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))
