"""Exports a model: a diffusers pipeline that needs neither rbjax nor JAX, or a saved model.

python scripts/export_pytorch.py --checkpoint runs/composition --out export
python scripts/export_pytorch.py --format model --half --on_base --out rbjax/weights/avatars \
    --checkpoint runs/composition
"""

import argparse

from rbjax.command_line import ArgumentParser, one_line_errors, set_environment


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add(
        "--checkpoint",
        help="saved model or --workdir of a training (default: the shipped model)",
    )
    add("--out", required=True, help="folder to write")
    add(
        "--format",
        choices=("diffusers", "model"),
        default="diffusers",
        help="diffusers: a pipeline with its code and a README.md that says how to load it; "
        "model: the weights for rbjax.generate --checkpoint (default: diffusers)",
    )
    add("--half", action="store_true", help="store float16: half the size, rounded weights")
    add(
        "--on_base",
        action="store_true",
        help="with --format model --half: leave out what rbjax/weights/base holds as well, as the "
        "shipped model does",
    )
    args = parser.parse_args(argv)
    if args.on_base and (args.format != "model" or not args.half):
        parser.error("--on_base needs --format model --half")
    return args


def main(argv: list[str] | None = None) -> None:
    """Reads the checkpoint and writes the folder."""
    args = parse_args(argv)
    set_environment()
    import numpy as np  # after the environment is set

    from rbjax import storage
    from rbjax.inference.model_loading import load_model
    from rbjax.interop import diffusers_export, saved_model

    with one_line_errors("export on the CPU, JAX_PLATFORMS=cpu"):
        out = storage.stored_path(args.out, "--out")
        model, dtype = load_model(args.checkpoint), np.float16 if args.half else None
        with storage.local_output(out) as folder:
            if args.format == "diffusers":
                diffusers_export.export(model, folder, dtype)
            else:
                saved_model.save(model, folder, dtype, on_base=args.on_base)
    how = f"; how to load it: {out}/README.md" if args.format == "diffusers" else ""
    print(f"wrote {out}{how}")


if __name__ == "__main__":
    main()
