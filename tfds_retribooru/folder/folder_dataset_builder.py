"""The TFDS builder `folder`: any pictures of people or characters, sorted into folders."""

import functools
import pathlib

import tensorflow_datasets as tfds

from tfds_retribooru import array_record
from tfds_retribooru.building import examples as examples_lib
from tfds_retribooru.building import features
from tfds_retribooru.building.rejections import Rejections
from tfds_retribooru.folder import layout


class Builder(tfds.core.GeneratorBasedBuilder):
    """DIR/CHARACTER/[OUTFIT/]IMAGE as a data set."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = features.configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Give the folder to the builder, `tfds.builder("folder", path=DIR)`, or put it (or a link to it)
    at MANUAL_DIR/folder, where MANUAL_DIR is DATA_DIR/downloads/manual. It holds
      CHARACTER/IMAGE or CHARACTER/OUTFIT/IMAGE, and IMAGE's name with .txt for its tags.
    """

    def __init__(self, *, path: str = "", max_rejected: float = 0.01, **kwargs):
        """As any TFDS builder.

        Args:
            path: the folder; "" is MANUAL_DIR/folder.
            max_rejected: share of the pictures that may be rejected; above it the build stops.
            **kwargs: of TFDS. Give each folder a `data_dir` of its own.
        """
        self.path, self.max_rejected = path, max_rejected
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(features=features.features())

    def _split_generators(self, dl_manager):
        root = self._root(dl_manager)
        self.log = Rejections(pathlib.Path(self.data_path), self.max_rejected)
        read = functools.partial(layout.read, root)
        return examples_lib.split_generators(self, read, functools.partial(layout.locate, root))

    def _root(self, dl_manager) -> pathlib.Path:
        if self.path:
            root = pathlib.Path(self.path).expanduser()
        else:
            root = pathlib.Path(dl_manager.manual_dir) / self.name
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is not a folder.\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        return root

    def _generate_examples(self, *arguments):
        return examples_lib.examples(*arguments)

    def _as_dataset(self, split, decoders=None, read_config=None, shuffle_files=False):
        return array_record.as_dataset(self, split, decoders, read_config, shuffle_files)

    def download_and_prepare(self, *, download_config=None, **kwargs) -> None:
        """Builds the records and, beside them, manifest, clusters and vocabulary."""
        was_there = self.is_prepared()
        self.download_config = download_config
        super().download_and_prepare(download_config=download_config, **kwargs)
        examples_lib.finish(self, is_new=not was_there)
