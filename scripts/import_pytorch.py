"""Brings an exported model back, also after it was trained further in PyTorch and saved.

python scripts/import_pytorch.py --folder export --out model

The model generates and can be exported again; a training cannot start from it, since
--config.pretrained takes Stable Diffusion only.
"""

import argparse
import sys

from rbjax.interop import saved_model


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line (`argv` in its place)."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__.split("\n\n")[-1]
    )
    add = parser.add_argument
    add(
        "--folder", required=True, help="of export_pytorch.py, or of the pipeline's save_pretrained"
    )
    add("--out", required=True, help="saved model to write, for rbjax.generate --checkpoint")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Reads the folder, every key checked, and writes it as a saved model."""
    args = parse_args(argv)
    try:
        saved_model.save(saved_model.load(args.folder), args.out)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    print(f"wrote {args.out}; generate: python -m rbjax.generate --checkpoint {args.out}")


if __name__ == "__main__":
    main()
