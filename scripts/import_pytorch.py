"""Brings an exported model back, also after it was trained further in PyTorch and saved.

python scripts/import_pytorch.py --folder export --out model

The model generates, can be exported again, and can be trained further: --config.init_from=model.
"""

import argparse

from rbjax.command_line import ArgumentParser, one_line_errors, path_argument, set_environment


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
    parser = ArgumentParser(description=__doc__.split("\n")[0], epilog=__doc__.split("\n\n")[-1])
    add = parser.add_argument
    add(
        "--folder",
        type=path_argument,
        required=True,
        help="of export_pytorch.py, or of the pipeline's save_pretrained",
    )
    add(
        "--out",
        type=path_argument,
        required=True,
        help="saved model to write, for rbjax.generate --checkpoint",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Reads the folder, every key checked, and writes it as a saved model."""
    args = parse_args(argv)
    set_environment()
    from rbjax.interop import saved_model  # after the environment is set

    with one_line_errors("import on the CPU, JAX_PLATFORMS=cpu"):
        saved_model.save(saved_model.load(args.folder), args.out)
    print(f"wrote {args.out}; generate: python -m rbjax.generate --checkpoint {args.out}")


if __name__ == "__main__":
    main()
