"""The TFDS builder `folder`: any images of people or characters, sorted into folders."""

import functools
import pathlib
from typing import Any

import tensorflow_datasets as tfds

from tfds_retribooru.building import base, features
from tfds_retribooru.building.examples import Source
from tfds_retribooru.folder import layout


class Builder(base.AnnotatedImageBuilder):
    """DIR/CHARACTER/[OUTFIT/]IMAGE as a data set."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = features.configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Give the folder to the builder, `tfds.builder("folder", path=DIR)`, or put it (or a link to it)
    at MANUAL_DIR/folder, where MANUAL_DIR is DATA_DIR/downloads/manual. It holds
      CHARACTER/IMAGE or CHARACTER/OUTFIT/IMAGE, and IMAGE's name with .txt for its tags.
    """

    def __init__(self, *, path: str = "", **kwargs: Any) -> None:
        """Makes a builder.

        Args:
            path: the folder; "" is MANUAL_DIR/folder.
            **kwargs: of AnnotatedImageBuilder. Give each folder a `data_dir` of its own.
        """
        self.path = path
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(features=features.features())

    def _source(self, dl_manager: tfds.download.DownloadManager) -> Source:
        if self.path:
            root = pathlib.Path(self.path).expanduser()
        else:
            root = pathlib.Path(dl_manager.manual_dir) / self.name
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is not a folder.\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        return Source(
            functools.partial(layout.read, root),
            functools.partial(layout.locate, root),
            self.builder_config.side,
        )
