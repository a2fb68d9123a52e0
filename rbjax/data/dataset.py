"""Opens a TFDS data set: its records, clusters and vocabulary, by position.

It reads what TFDS stores, ArrayRecord files, and beside them `clusters-SPLIT.npz` and
`vocabulary.json` (see tfds_retribooru). Records are read in any order and by any process.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tokenizers

import tfds_retribooru  # noqa: F401  registers the builders
from rbjax.data import texts as texts_lib
from rbjax.data.texts import Texts
from rbjax.text import prompts, tokenizer
from rbjax.text.concepts import CHARACTER, CLOTHES, CONCEPTS, FACE
from tfds_retribooru import array_record, boxes, vocabulary
from tfds_retribooru.building import locks
from tfds_retribooru.clusters import Clusters
from tfds_retribooru.threads import map_in_order


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        name: of the split.
        records: decoded records; `records[i]["image"]` is uint8 [H, W, 3].
        clusters: identity and outfit clusters over the positions of `records`.
        vocabulary: {"tags": {tag: {attribute, answer, kind}}, "questions": {attribute: text}}.
        directory: of the built data set.
    """

    name: str
    records: Sequence[dict]
    clusters: Clusters
    vocabulary: dict
    directory: pathlib.Path

    def __len__(self) -> int:
        return len(self.records)

    @property
    def tags(self) -> Sequence[list[str]]:
        """The prompt of every record as a list of tags; each is split when it is read."""
        return self._texts.tags

    @functools.cached_property
    def clusters_with_box(self) -> Clusters:
        """The clusters of the images with a face box: possible references for the face."""
        keep = self._texts.boxed
        return self.clusters if keep.all() else self.clusters.restricted(keep)

    @functools.cached_property
    def clusters_with_clothes(self) -> Clusters:
        """The clusters of the images that show clothes apart from the face."""
        keep = self._texts.clothed
        return self.clusters if keep.all() else self.clusters.restricted(keep)

    @property
    def sizes(self) -> np.ndarray:
        """Width and height of every image in pixels, int [N, 2]."""
        return self._texts.sizes

    @functools.cached_property
    def crop_records(self) -> tuple[array_record.Part, ...]:
        """For each concept, what its crop is made of from every record; CLOTHES needs all."""
        builder = tfds.builder_from_directory(self.directory)
        faces = ["image", "bbox", "face", "face_frame"]
        clothes = [*faces, "mask", "has_mask", "clothes", "clothes_frame"]
        needed = {CHARACTER: ["image"], FACE: faces, CLOTHES: clothes}
        return tuple(array_record.Part(builder, self.name, needed[c]) for c in range(len(CONCEPTS)))

    def record_id(self, position: int) -> str:
        """Returns the id of a record, without decoding its image; its position if it has none."""
        found = self._ids[position].get("id", position)
        return found.decode() if isinstance(found, bytes) else str(found)

    @functools.cached_property
    def _ids(self) -> array_record.Part:
        return array_record.Part(tfds.builder_from_directory(self.directory), self.name, ["id"])

    @functools.cached_property
    def _texts(self) -> Texts:
        return _read_texts(self.directory, self.name)


def prepare(dataset: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Returns the TFDS builder of `dataset`, building the data set if it is not there.

    Args:
        dataset: TFDS name, e.g. "avatars/centered".
        data_dir: TFDS data directory; "" means TFDS's default (~/tensorflow_datasets).

    Raises:
        FileNotFoundError: `data_dir` is given but does not exist, or what the data set is built
            from is not there.
        PermissionError: `data_dir` cannot be written, or what it is built from cannot be read.
        ValueError: no such data set.
    """
    folder = pathlib.Path(data_dir).expanduser() if data_dir else None
    if folder and not folder.is_dir():
        raise FileNotFoundError(
            f"config.data_dir={data_dir!r} does not exist. Create it, or leave data_dir empty to "
            "use ~/tensorflow_datasets."
        )
    try:
        builder = tfds.builder(dataset, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:  # it lists all that TFDS has
        raise ValueError(
            f"config.data.dataset={dataset!r} is not a known data set: use avatars/varied, "
            "retribooru/384, folder/384 or another one of the README"
        ) from error
    except ValueError as error:
        raise ValueError(f"config.data.dataset={dataset!r} is not a known data set: {error}") from (
            error
        )
    if not builder.is_prepared():
        print(f"Building the data set {dataset} in {builder.data_dir} (once).", flush=True)
    try:
        builder.download_and_prepare()
    except PermissionError as error:
        name = error.filename or ""
        is_input = os.path.exists(name) and not os.access(name, os.R_OK)
        advice = "give a directory that you may write, --config.data_dir=DIR"
        if is_input:
            advice = "let it be read, or take it out of the data"
        raise PermissionError(
            f"{dataset} cannot be built in {builder.data_dir} ({error}): {advice}"
        ) from error
    except AssertionError as error:  # of TFDS, where the folder for manual data is not there
        if "Manual directory" not in str(error):
            raise
        raise FileNotFoundError(f"config.data.dataset={dataset!r}: {error}") from error
    return builder


def open_split(builder: tfds.core.DatasetBuilder, name: str) -> Split:
    """Opens one split of a prepared builder.

    Raises:
        ValueError: the data set has no such split.
        FileNotFoundError: clusters or vocabulary are missing.
    """
    check_split(builder, name)
    directory = pathlib.Path(builder.data_dir)
    return Split(
        name=name,
        records=builder.as_data_source(split=name),
        clusters=Clusters.of_split(directory, name),
        vocabulary=vocabulary.read(directory),
        directory=directory,
    )


def check_split(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Checks that the data set has a split.

    Raises:
        ValueError: it has not; the message names those that it has.
    """
    if name not in builder.info.splits:
        raise ValueError(
            f"{builder.name} in {builder.data_dir} has no split {name!r}, only "
            f"{sorted(builder.info.splits)}. Training reads 'train'; for the evaluation name "
            "another one in config.eval.split."
        )


def word_tokenizer(
    builder: tfds.core.DatasetBuilder, *, underscores_as_spaces: bool = False
) -> tokenizers.Tokenizer:
    """Builds a tokenizer with the words of a data set, as its prompts are spelled."""
    tags = vocabulary.read(builder.data_path)["tags"]
    if underscores_as_spaces:
        tags = {prompts.spaced(tag): entry for tag, entry in tags.items()}
    return tokenizer.word_tokenizer({"tags": tags})


def _read_texts(directory: pathlib.Path, split: str) -> Texts:
    """Returns the texts of a split.

    A record holds its image, so finding its prompt reads the image too: gigabytes for a large
    split. That is done once: a second process waits for the first. Where the result cannot be
    written, a message says so, and the records are read again the next time.
    """
    found = texts_lib.find(directory, split)
    if found is not None:
        return found
    older = texts_lib.older_rows(directory, split)
    names = ("prompts", "image", "bbox", "has_bbox", "mask", "has_mask")
    part = array_record.Part(tfds.builder_from_directory(directory), split, names)

    def rows() -> Iterable[texts_lib.Row]:
        return older or map_in_order(lambda index: _text(part[index]), range(len(part)))

    try:
        with locks.build_lock(texts_lib.folder_of(directory, split)):
            if texts_lib.find(directory, split) is None:
                texts_lib.save(rows(), directory, split)
    except OSError as error:
        print(
            f"texts of {directory} cannot be written ({error.strerror}): every start reads all "
            "records."
        )
        return texts_lib.of_rows(rows())
    found = texts_lib.find(directory, split)
    assert found is not None
    return found


def _text(record: Mapping[str, Any]) -> texts_lib.Row:
    """Returns (prompt, whether there is a face box, whether clothes are to be seen, size)."""
    boxed, clothed = bool(record.get("has_bbox", True)), False
    width, height = record["image"].size  # of the file's head: nothing is decoded
    if boxed:
        mask = record["mask"][:, :, 0] if record.get("has_mask", True) else None
        bbox = record["bbox"].tolist()
        clothed = boxes.clothes_box(bbox, mask, width=width, height=height) is not None
    return record["prompts"].decode(), boxed, clothed, (width, height)
