"""The TFDS builder `folder`: any images of people or characters, sorted into folders."""

import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from tfds_retribooru.building import base, features
from tfds_retribooru.building.examples import Source
from tfds_retribooru.folder import layout

DEPTH = 6  # of files, in images/CHARACTER/images/OUTFIT/images/


class Builder(base.AnnotatedImageBuilder):
    """DIR/CHARACTER/[OUTFIT/]IMAGE as a data set."""

    VERSION = features.VERSION
    SUPPORTED_VERSIONS = features.OLDER
    RELEASE_NOTES = features.RELEASE_NOTES
    BUILDER_CONFIGS = features.configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Give the folder to the builder, `tfds.builder("folder", path=DIR)`, or put it (or a link to it)
    at MANUAL_DIR/folder, where MANUAL_DIR is DATA_DIR/downloads/manual. It holds
      CHARACTER/IMAGE or CHARACTER/OUTFIT/IMAGE, and IMAGE's name with .txt for its tags.
    """

    def __init__(self, *, path: str | os.PathLike[str] = "", **kwargs: Any) -> None:
        """Makes a builder.

        Args:
            path: the folder; "" is MANUAL_DIR/folder.
            **kwargs: of AnnotatedImageBuilder. Give each folder a `data_dir` of its own.
        """
        self.path = os.fspath(path)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(features=features.features(self.version))

    def _source(self, dl_manager: tfds.download.DownloadManager) -> Source:
        # TFDS raises where there is no manual_dir, which a `path` does not need
        root = self._root(pathlib.Path("" if self.path else dl_manager.manual_dir))
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is not a folder.\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        return Source(
            functools.partial(layout.read, root),
            functools.partial(layout.locate, root),
            self.builder_config.side,
            place=str(root.absolute()),
        )

    def _root(self, manual_dir: pathlib.Path) -> pathlib.Path:
        return pathlib.Path(self.path).expanduser() if self.path else manual_dir / self.name

    def _inputs(self, manual_dir: pathlib.Path) -> Iterator[pathlib.Path]:
        root = self._root(manual_dir)
        for depth in range(1 + DEPTH):
            found = root.glob("/".join("*" * depth)) if depth else [root]
            yield from (path for path in found if "/." not in f"/{path.relative_to(root)}")

    def _own_options(self) -> dict[str, Any]:
        return {"path": str(self._root(pathlib.Path()).absolute())} if self.path else {}
