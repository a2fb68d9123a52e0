"""What the TFDS builders share.

`ArrayRecordBuilder` keeps clusters and vocabulary beside the records. `AnnotatedImageBuilder` also
reads annotated image files, keeps a manifest of what it rejects, and can build on Apache Beam.
"""

import abc
import contextlib
import dataclasses
import os
import pathlib
import shlex
import shutil
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from tfds_retribooru import array_record, clusters, tag_kinds, text_files, vocabulary
from tfds_retribooru.building import examples, locks, splits
from tfds_retribooru.building.examples import Plan, Source
from tfds_retribooru.building.rejections import NAME, Rejections
from tfds_retribooru.building.stored import Stored
from tfds_retribooru.clusters import Clusters
from tfds_retribooru.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf

MAX_REJECTED = 0.01
PLACE = "built_from.txt"  # beside the records, where their pictures lay
BEAM_FOLDER = "beam"  # of files between pipelines, while a data set is built


class ArrayRecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of ArrayRecord files with clusters and vocabulary beside them."""

    def __init__(self, **kwargs: Any) -> None:
        """See tfds.core.GeneratorBasedBuilder."""
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _as_dataset(
        self,
        split: tfds.Split,
        decoders: Any = None,  # a tree of tfds.decode.Decoder, or a PartialDecoding
        read_config: tfds.ReadConfig | None = None,
        shuffle_files: bool = False,
    ) -> "tf.data.Dataset":
        return array_record.as_dataset(
            self, split, decoders=decoders, read_config=read_config, shuffle=shuffle_files
        )

    def is_prepared(self) -> bool:
        """Whether it is built; TFDS takes a directory's name for a pattern, as "data [1]"."""
        return (pathlib.Path(self.data_path) / "dataset_info.json").exists()

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **kwargs: Any
    ) -> None:
        """Builds the records, and the clusters and the vocabulary where they are missing.

        Of several processes that start at once, one builds, and the others wait for its result.
        """
        is_complete = (self.data_path / vocabulary.NAME).exists()  # it is written last
        overwrites = download_config and download_config.download_mode.overwrite_dataset
        is_locked = overwrites or not is_complete
        with locks.build_lock(self.data_path) if is_locked else contextlib.nullcontext():
            if self.is_prepared() and not self.info.splits:  # built after this builder was made
                self.info.read_from_directory(self.data_path)
            super().download_and_prepare(download_config=download_config, **kwargs)
            clusters.write(self)
            vocabulary.write(self.data_path, self._vocabulary)

    def _vocabulary(self) -> Vocabulary:
        return vocabulary.from_records(self)


class AnnotatedImageBuilder(ArrayRecordBuilder, skip_registration=True):
    """A builder of image files and what is known about them.

    Attributes:
        RELEASE_NOTES: of the versions, the newest first; older ones that are built are read.
        max_rejected: share of the records that may be rejected; above it the build stops.
    """

    _log: Rejections | None = None  # of the build, where this builder built
    _download_config: tfds.download.DownloadConfig | None

    def __init__(self, *, max_rejected: float = MAX_REJECTED, **kwargs: Any) -> None:
        """Makes a builder.

        Args:
            max_rejected: see above.
            **kwargs: of tfds.core.GeneratorBasedBuilder.
        """
        self.max_rejected = max_rejected
        if kwargs.get("version") is None:
            kwargs["version"] = self._built_version(**kwargs)
        super().__init__(**kwargs)

    def _built_version(
        self, *, config: Any = None, data_dir: Any = None, **kwargs: Any
    ) -> str | None:
        """Returns the newest version that somebody has built; None without any."""
        config = config or self.BUILDER_CONFIGS[0]
        name = config if isinstance(config, str) else config.name
        root = pathlib.Path(data_dir or constants.DATA_DIR).expanduser()
        folders = (root / self.name / name / version for version in self.RELEASE_NOTES)
        return next((f.name for f in folders if (f / "dataset_info.json").exists()), None)

    @abc.abstractmethod
    def _source(self, dl_manager: tfds.download.DownloadManager) -> Source:
        """Returns the records and their images.

        Raises:
            FileNotFoundError: they are not there; it says where to put them.
        """

    @abc.abstractmethod
    def _inputs(self, manual_dir: pathlib.Path) -> Iterable[pathlib.Path]:
        """Returns files and folders that change where the data does; () where they are gone."""

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        source = self._source(dl_manager)
        self._log = log = Rejections(pathlib.Path(self.data_path), self.max_rejected)
        pathlib.Path(self.data_path, PLACE).write_bytes(os.fsencode(source.place))
        plan = examples.plan_splits(source, log)
        source = dataclasses.replace(source, box_format=plan.box_format)
        config = self._download_config
        if config and (config.beam_runner or config.beam_options):
            from tfds_retribooru.building import beam  # needs apache_beam, which is optional

            return beam.transforms(
                source,
                plan,
                log=log,
                folder=pathlib.Path(self.data_path) / BEAM_FOLDER,
                runner=config.beam_runner,
                options=config.beam_options,
                names=tuple(self.info.features),
            )
        kept = Stored(plan.variant_keys)
        return {
            split: self._generate_examples(source, plan, split, kept=kept, log=log)
            for split in examples.usable_splits(source, plan, log)
        }

    def _generate_examples(
        self, source: Source, plan: Plan, split: str, *, kept: Stored, log: Rejections
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        names = tuple(self.info.features)  # those of this version
        for key, example in examples.examples(source, plan, split, kept=kept, log=log):
            yield key, {name: example[name] for name in names}

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **kwargs: Any
    ) -> None:
        """Builds the records and, beside them, manifest, clusters and vocabulary.

        Where they are built already, from what is newer now or from another folder, it says so.
        """
        self._download_config, self._log = download_config, None
        own = self._own_kinds()
        super().download_and_prepare(download_config=download_config, **kwargs)
        vocabulary.update(self, own)
        beam_files = pathlib.Path(self.data_path) / BEAM_FOLDER
        if beam_files.exists():
            shutil.rmtree(beam_files)
        if self._log is not None:
            print(self._report(self._log), flush=True)
        elif self.version < self.VERSION:
            news = self.RELEASE_NOTES[str(self.VERSION)]
            print(
                f"{self.data_path} is used, of version {self.version}. News of {self.VERSION}: "
                f"{news} To build it:\n{self._rebuild()}",
                flush=True,
            )
        elif other := self._other_place():
            print(
                f"{self.data_path} was built from {other}, and is used as it was built. Give "
                f"another `data_dir` for this folder, or build it again:\n{self._rebuild()}",
                flush=True,
            )
        elif newer := self._newer(download_config):
            more = f" and {len(newer) - 1} more files" if newer[1:] else ""
            print(
                f"{newer[0]}{more} changed after {self.name} was built, which is used as it was "
                f"built. To build it again:\n{self._rebuild()}",
                flush=True,
            )

    def _other_place(self) -> str:
        """Returns what the data set was built from, if not the folder of the options; else ""."""
        noted, given = pathlib.Path(self.data_path, PLACE), self._own_options().get("path")
        if not given or not noted.exists():
            return ""
        place = os.fsdecode(noted.read_bytes())
        return "" if os.path.realpath(place) == os.path.realpath(given) else place

    def _newer(self, config: tfds.download.DownloadConfig | None) -> list[pathlib.Path]:
        """Returns what was changed after the data set was built from it, the newest first."""
        root = pathlib.Path(self._data_dir_root) / "downloads" / "manual"
        manual_dir = config.manual_dir if config and config.manual_dir else root
        built = pathlib.Path(self.data_path, "dataset_info.json").stat().st_mtime
        times = {
            path: path.stat().st_mtime
            for path in self._inputs(pathlib.Path(manual_dir))
            if path.exists()
        }
        return sorted((p for p in times if times[p] > built), key=lambda p: -times[p])

    def _rebuild(self) -> str:
        """Returns the command that builds the data set again."""
        options = {"data_dir": str(self._data_dir_root), **self._own_options()}
        if self.max_rejected != MAX_REJECTED:
            options["max_rejected"] = self.max_rejected
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        name = f"{self.name}/{self.builder_config.name}:{self.VERSION}"
        code = (
            "import tensorflow_datasets as tfds, tfds_retribooru; "
            f"tfds.builder({name!r}, {given})"
            ".download_and_prepare(download_config=tfds.download.DownloadConfig("
            "download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS))"
        )
        return f"python -c {shlex.quote(code)}"

    def _own_options(self) -> dict[str, Any]:
        """Returns the options of the builder's class that this one was made with."""
        return {}

    def _vocabulary(self) -> Vocabulary:
        return vocabulary.from_records(self, self._own_kinds())

    def _own_kinds(self) -> str:
        """Returns the user's file of kinds; it lies above the versions, so that builds keep it.

        Raises:
            ValueError: it cannot be used; the message names it.
        """
        path = pathlib.Path(self.data_path).parents[1] / tag_kinds.OWN
        if not path.exists():
            return ""
        try:
            text = text_files.read_text(path)
            tag_kinds.parse(text)
        except ValueError as error:  # of the encoding, too
            raise ValueError(f"{path}: {error}") from error
        return text

    def _report(self, log: Rejections) -> str:
        """Returns how many records were stored and, by reason, rejected."""
        counts = {name: info.num_examples for name, info in self.info.splits.items()}
        names = [name for name in reversed(splits.SPLITS) if name in counts]
        stored = ", ".join(f"{name} {counts[name]:,}" for name in names)
        text = f"{log.total:,} records, {sum(counts.values()):,} stored ({stored})"
        if log.counts:
            text += f"; left out, see {self.data_path / NAME}:\n{log.summary()}"
        return "\n".join([text, *log.notes, *self._variants()])

    def _variants(self) -> Iterator[str]:
        """Yields how many of the pictures are variants, if any are."""
        found = [Clusters.of_split(self.data_path, split) for split in self.info.splits]
        sets = [size for clusters in found for size in clusters.variant_set_sizes.tolist()]
        if sets:
            yield (
                f"{sum(sets):,} pictures are variants, the same drawing with little changed, in "
                f"{len(sets):,} sets: of one set, none is another's reference."
            )
