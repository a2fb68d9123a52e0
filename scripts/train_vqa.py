"""Trains the small BLIP-VQA that ships with the package and measures it on unseen characters.

python scripts/train_vqa.py --out rbjax/weights/vqa
"""

import argparse
import dataclasses

from rbjax.vqa import train
from rbjax.vqa.train import TrainOptions


def parse_args(argv: list[str] | None = None) -> TrainOptions:
    """Reads the command line (`argv` in its place)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for field in dataclasses.fields(TrainOptions):
        kind = str if field.default is None else type(field.default)
        parser.add_argument(
            f"--{field.name}", type=kind, default=field.default, help=field.metadata["help"]
        )
    return TrainOptions(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    train.main(parse_args())
