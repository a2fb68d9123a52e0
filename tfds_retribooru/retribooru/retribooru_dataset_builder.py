"""The TFDS builder `retribooru`: from annotations and images to a data set."""

import functools
import pathlib

import tensorflow_datasets as tfds

from tfds_retribooru.building import annotations, base, features
from tfds_retribooru.building.examples import Source
from tfds_retribooru.retribooru import layout


class Builder(base.AnnotatedImageBuilder):
    """Character art with identity and outfit clusters."""

    VERSION = features.VERSION
    SUPPORTED_VERSIONS = features.OLDER
    RELEASE_NOTES = features.RELEASE_NOTES
    BUILDER_CONFIGS = features.configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    RetriBooru's pictures are not distributed. Put into MANUAL_DIR/retribooru/:
      annotations/*.json  records as JSON lines or as a list, one object a picture with the keys
                          id, character, artists, bbox, cloths, similar, prompts
                          (make them with `python -m tfds_retribooru.collect`)
      images/             {original,512px}/BUCKET/ID.EXT as in Danbooru20xx, or flat: ID.EXT
      masks/ID.png        optional: the figure, white on black, of the picture's size
    MANUAL_DIR is DATA_DIR/downloads/manual, or what --manual_dir says; it may hold links.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=features.features(self.version), homepage="https://arxiv.org/abs/2312.02521"
        )

    def _source(self, dl_manager: tfds.download.DownloadManager) -> Source:
        root = self._root(pathlib.Path(dl_manager.manual_dir))
        annotations.files(root / "annotations")  # or it says what is missing
        return Source(
            functools.partial(layout.read, root),
            functools.partial(layout.locate, root),
            self.builder_config.side,
            place=str(root.absolute()),
        )

    def _inputs(self, manual_dir: pathlib.Path) -> list[pathlib.Path]:
        for root in (manual_dir / self.name, manual_dir):
            if (root / "annotations").is_dir():
                folder = root / "annotations"
                return [folder, *folder.iterdir()]
        return []

    def _root(self, manual_dir: pathlib.Path) -> pathlib.Path:
        """Returns the folder with annotations/: MANUAL_DIR/retribooru, or MANUAL_DIR itself."""
        for root in (manual_dir / self.name, manual_dir):
            if (root / "annotations").is_dir():
                return root
        raise FileNotFoundError(
            f"there is no {manual_dir / self.name / 'annotations'}.\n"
            f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
