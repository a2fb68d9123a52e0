"""TFDS data sets of RetriBooru's kind: importing this package registers them with TFDS.

import tensorflow_datasets as tfds
import tfds_retribooru
source = tfds.data_source("avatars", split="train")
"""

from tfds_retribooru.avatars import avatars_dataset_builder as avatars_dataset_builder
from tfds_retribooru.folder import folder_dataset_builder as folder_dataset_builder
from tfds_retribooru.retribooru import retribooru_dataset_builder as retribooru_dataset_builder
