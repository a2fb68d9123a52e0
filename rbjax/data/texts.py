"""Prompts of all records and which have a box, kept in a small file beside the data set.

A record holds its picture, so finding its prompt reads the picture too: gigabytes for a large
split. That is done once; `texts-SPLIT.json` holds what was found and of which build.
"""

import hashlib
import json
import pathlib

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.utils import incomplete_file

from tfds_retribooru import array_record


def read(directory: pathlib.Path, split: str) -> tuple[list[str], list[bool]]:
    """(prompt, whether there is a box) of every record of a split, in order.

    Args:
        directory: of the built data set. Where it cannot be written, that is said, and the records
            are read again the next time.
        split: its name.
    """
    path = directory / f"texts-{split}.json"
    build = hashlib.sha256((directory / "dataset_info.json").read_bytes()).hexdigest()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["build"] == build:
            return kept["prompts"], kept["boxed"]
    except (OSError, ValueError, TypeError, KeyError):
        pass  # not there, cut off, or not ours: made anew
    prompts, boxed = _from_records(directory, split)
    _keep(path, json.dumps({"build": build, "prompts": prompts, "boxed": boxed}))
    return prompts, boxed


def _from_records(directory: pathlib.Path, split: str) -> tuple[list[str], list[bool]]:
    """Decodes no picture."""
    part = array_record.Part(tfds.builder_from_directory(directory), split, ("prompts", "has_bbox"))
    prompts, boxed = [], []
    for record in part:
        prompts.append(record["prompts"].decode())
        boxed.append(bool(record.get("has_bbox", True)))
    return prompts, boxed


def _keep(path: pathlib.Path, text: str) -> None:
    try:
        with incomplete_file(epath.Path(path)) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror}): every start reads all records.")
