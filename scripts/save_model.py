"""Makes a saved model of a training's averaged weights: what `rbjax.generate --checkpoint` reads.

python scripts/save_model.py --checkpoint runs/composition --out rbjax/weights/avatars --half
"""

import argparse
import sys

import numpy as np

from rbjax.inference.model_loading import load_model
from rbjax.interop import saved_model


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line (`argv` in its place)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--checkpoint", required=True, help="--workdir of a training, or a saved model")
    add("--out", required=True, help="folder to write")
    add("--half", action="store_true", help="store float16: half the size, rounded weights")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Reads the checkpoint and writes the folder."""
    args = parse_args(argv)
    try:
        model = load_model(args.checkpoint)
        saved_model.save(model, args.out, np.float16 if args.half else None)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
