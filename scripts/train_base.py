"""Trains the text-to-image model of avatars that RetriNet starts from (rbjax/weights/base).

python -m scripts.train_base --workdir runs/base --out rbjax/weights/base

Three parts, each of which goes on where it was stopped: the KL autoencoder (WORKDIR/autoencoder),
text encoder and UNet (WORKDIR/unet, configs/base.py), and the folder OUT in diffusers' format.
"""

import dataclasses
import functools
import pathlib

from rbjax.command_line import (
    ArgumentParser,
    log_progress,
    one_line_errors,
    path_argument,
    set_environment,
)

if __name__ == "__main__":
    set_environment()  # before JAX and TensorFlow are imported

import numpy as np

from configs import base as base_config
from rbjax.train import base


def main(argv: list[str] | None = None) -> None:
    """Trains what is missing; ends with one line where the user can put something right."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=path_argument, default=pathlib.Path("runs/base"))
    parser.add_argument("--out", type=path_argument, default=None, help="folder to write")
    parser.add_argument("--data_dir", default="", help="of TFDS; ~/tensorflow_datasets if empty")
    add_steps = functools.partial(parser.add_argument, type=int, metavar="N")
    settings = base.AUTOENCODER
    add_steps(
        "--window_steps", default=settings.window_steps, help="of the autoencoder, on windows"
    )
    add_steps("--autoencoder_steps", default=settings.steps, help="then on entire images")
    add_steps("--decoder_steps", default=settings.decoder_steps, help="then of the decoder alone")
    add_steps("--steps", help="of text encoder and UNet; as configs/base.py")
    args = parser.parse_args(argv)
    log_progress(args.verbosity)
    with one_line_errors("lower config.batch_size in configs/base.py"):
        config = base_config.get_config()
        config.data_dir = args.data_dir
        config.total_steps = args.steps or config.total_steps
        settings = dataclasses.replace(
            settings,
            window_steps=args.window_steps,
            steps=args.autoencoder_steps,
            decoder_steps=args.decoder_steps,
        )
        base.train(config, args.workdir, settings)
        if args.out:
            base.export(config, args.workdir, args.out, dtype=np.float16)


if __name__ == "__main__":
    main()
