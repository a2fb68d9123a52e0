"""Ways to read ArrayRecord files that TFDS lacks: as `tfds.load` does, and features one by one."""

import io
import pathlib
from collections.abc import Iterable, Iterator

import tensorflow_datasets as tfds
from PIL import Image


def builder_of(directory: pathlib.Path):
    """The builder of a built data set, from the directory of a version.

    Raises:
        FileNotFoundError: no data set is there; it names those below.
    """
    directory, info = directory.expanduser(), "dataset_info.json"
    if (directory / info).is_file():
        return tfds.builder_from_directory(directory)
    below = sorted(path.parent for k in (1, 2, 3) for path in directory.glob("*/" * k + info))
    hint = f": give {' or '.join(map(str, below))}" if below else ""
    raise FileNotFoundError(f"{directory} is not the directory of a built data set{hint}")


def as_dataset(builder, split, decoders=None, read_config=None, shuffle_files=False):
    """A tf.data.Dataset of the records of a split; stands in for the builder's `_as_dataset`.

    Args:
        builder: of a data set in ArrayRecord files.
        split: as TFDS reads it, e.g. "train[:10%]".
        decoders: of features, or a PartialDecoding.
        read_config: its `shuffle_seed` is used.
        shuffle_files: shuffles the records, not only the files.
    """
    import tensorflow as tf  # only here: the rest of the package does without

    features = builder.info.features
    if isinstance(decoders, tfds.decode.PartialDecoding):
        features, decoders = decoders.extract_features(features), decoders.decoders
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    source = builder.as_data_source(split=split, deserialize_method=raw)
    positions = tf.data.Dataset.range(len(source))
    if shuffle_files:
        seed = read_config and read_config.shuffle_seed
        positions = positions.shuffle(len(source), seed)

    def read(i):
        record = tf.numpy_function(lambda k: source[int(k)], [i], tf.string)
        return features.deserialize_example(tf.ensure_shape(record, ()), decoders=decoders)

    return positions.map(read, num_parallel_calls=tf.data.AUTOTUNE)


class Part:
    """Some features of a split's records, by position; what is not wanted is not decoded.

    The feature `image` is a Pillow image, which decodes itself when its pixels are read.
    """

    def __init__(self, builder, split: str, names: Iterable[str]):
        """Opens the split; features that the data set lacks are left out."""
        features = builder.info.features
        wanted = {name: True for name in names if name in features}
        self._features = tfds.decode.PartialDecoding(wanted).extract_features(features)
        self._decoders = {"image": tfds.decode.SkipDecoding()} if "image" in wanted else {}
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._records = builder.as_data_source(split=split, deserialize_method=raw)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict:
        record = self._features.deserialize_example_np(
            self._records[index], decoders=self._decoders
        )
        if "image" in record:
            record["image"] = Image.open(io.BytesIO(record["image"]))
        return record

    def __iter__(self) -> Iterator[dict]:
        return map(self.__getitem__, range(len(self)))
