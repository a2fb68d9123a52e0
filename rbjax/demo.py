"""References and a prompt to images, in a browser.

    python -m rbjax.demo
    python -m rbjax.demo --checkpoint runs/composition --checkpoint export --run runs/composition

The page shows the images, what the VQA model answers about them, and where each region was read
from. It needs `pip install -e '.[demo]'`.
"""

import argparse
import importlib.util

from rbjax.command_line import ArgumentParser, one_line_errors, set_environment

if __name__ == "__main__":
    set_environment()  # before JAX and TensorFlow are imported

MEMORY = "give fewer references, smaller images (Size) or fewer steps"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
    parser = ArgumentParser(
        prog="python -m rbjax.demo",
        description="Serves a page that composes images from references and a prompt.",
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        action="append",
        default=[],
        help="saved model, export or --workdir of a training (default: the shipped model); again "
        "for each other one that can be compared with it",
    )
    add(
        "--run",
        action="append",
        default=[],
        help="--workdir of a training to show, also while it runs; as often as wanted",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    add("--port", type=int, help="default: the first free one from 7860")
    add("--share", action="store_true", help="also make a public address, by Gradio's servers")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Opens the model and serves the page.

    Raises:
        ValueError: Gradio is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs Gradio: pip install -e '.[demo]'")
    from rbjax import storage
    from rbjax.demo_page import page
    from rbjax.demo_page.studio import open_all
    from rbjax.vqa.model import VQA

    runs = [storage.stored_path(folder, "--run") for folder in args.run]
    for folder in runs:
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"--run={folder} is no --workdir of a training: no config.json")
    checkpoints = [storage.stored_path(folder, "--checkpoint") for folder in args.checkpoint]
    studios = open_all(checkpoints or [None], VQA.load())
    print("Compiling; the first start takes longest ...", flush=True)
    page.warm_up(studios[0])
    built = page.build(studios, runs)
    with page.serving(built, host=args.host, port=args.port, share=args.share) as address:
        print(f"Open {address} in a browser; Ctrl-C ends it.", flush=True)
        built.block_thread()


def main() -> None:
    """Runs the command; ends with one line where the user can put something right."""
    args = parse_args()
    with one_line_errors(MEMORY):
        run(args)


if __name__ == "__main__":
    main()
