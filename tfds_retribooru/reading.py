"""Ways to read ArrayRecord files that TFDS lacks: as `tfds.load` does, and texts alone."""

from collections.abc import Iterator

import tensorflow_datasets as tfds


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


def texts(builder, split: str) -> Iterator[dict]:
    """The records of a split by position, their pictures left encoded; one at a time."""
    decoders = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}
    yield from builder.as_data_source(split=split, decoders=decoders)
