"""Exports a model to PyTorch: a diffusers pipeline that needs neither rbjax nor JAX.

python scripts/export_pytorch.py --checkpoint runs/composition --out export
"""

import argparse
import sys

import numpy as np

from rbjax.inference.model_loading import load_model
from rbjax.interop import diffusers_export


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line (`argv` in its place)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--checkpoint", help="saved model or --workdir of a training (default: the shipped model)")
    add("--out", required=True, help="folder to write; its README.md says how to load it")
    add("--half", action="store_true", help="store float16: half the size, rounded weights")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Reads the checkpoint and writes the folder."""
    args = parse_args(argv)
    try:
        model = load_model(args.checkpoint)
        diffusers_export.export(model, args.out, np.float16 if args.half else None)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    print(f"wrote {args.out}; how to load it: {args.out}/README.md")


if __name__ == "__main__":
    main()
