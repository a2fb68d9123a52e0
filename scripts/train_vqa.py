"""Trains the small BLIP-VQA that ships with the package and measures it on unseen characters.

python scripts/train_vqa.py --out rbjax/weights/vqa

With --dataset it learns the tags of any data set that is built, for --config.eval.vqa=OUT:

python scripts/train_vqa.py --dataset folder/384 --data_dir DATA --out judge
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rbjax.command_line import ArgumentParser, one_line_errors, path_argument, set_environment

if __name__ == "__main__":
    set_environment()  # before JAX and TensorFlow are imported

from rbjax.vqa import train, train_tagged
from rbjax.vqa.train import TrainOptions


def parse_args(argv: list[str] | None = None) -> TrainOptions:
    """Reads the command line, or `argv` in its place."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    fields = dataclasses.fields(TrainOptions)
    for field in fields:
        parser.add_argument(
            f"--{field.name}",
            type=_reader(field),
            default=field.default,
            help=field.metadata["help"],
        )
    args = parser.parse_args(argv)
    return TrainOptions(**{field.name: getattr(args, field.name) for field in fields})


def _reader(field: dataclasses.Field) -> Callable[[str], Any]:
    """Returns what reads the text of an option."""
    if field.type in (Path, Path | None):
        return path_argument
    return str if field.default is None else type(field.default)


def main(argv: list[str] | None = None) -> None:
    """Trains; ends with one line where the user can put something right."""
    options = parse_args(argv)
    with one_line_errors("lower --batch_size"):
        (train_tagged if options.dataset else train).main(options)


if __name__ == "__main__":
    main()
