"""The TFDS builder `retribooru`: from annotations and pictures to a data set."""

import functools
import pathlib

import tensorflow_datasets as tfds

from tfds_retribooru import array_record
from tfds_retribooru.building import annotations, features
from tfds_retribooru.building import examples as examples_lib
from tfds_retribooru.building.rejections import Rejections
from tfds_retribooru.retribooru import layout


class Builder(tfds.core.GeneratorBasedBuilder):
    """Character art with identity and outfit clusters."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
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

    def __init__(self, *, max_rejected: float = 0.01, **kwargs):
        """As any TFDS builder.

        Args:
            max_rejected: share of the records that may be rejected; above it the build stops.
            **kwargs: of TFDS.
        """
        self.max_rejected = max_rejected
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=features.features(), homepage="https://arxiv.org/abs/2312.02521"
        )

    def _split_generators(self, dl_manager):
        root = self._root(pathlib.Path(dl_manager.manual_dir))
        paths = annotations.files(root / "annotations")
        self.log = Rejections(pathlib.Path(self.data_path), self.max_rejected)
        read = functools.partial(annotations.read, paths)
        return examples_lib.split_generators(self, read, functools.partial(layout.locate, root))

    def _root(self, manual_dir: pathlib.Path) -> pathlib.Path:
        """The folder with annotations/: MANUAL_DIR/retribooru, or MANUAL_DIR itself."""
        for root in (manual_dir / self.name, manual_dir):
            if (root / "annotations").is_dir():
                return root
        raise FileNotFoundError(
            f"there is no {manual_dir / self.name / 'annotations'}.\n"
            f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )

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
