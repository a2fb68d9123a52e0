"""References and a prompt to images, with a saved or a trained model.

    python -m rbjax.generate --prompt "smile, night sky" --face a.png --clothes b.png --out images

From Python:

    from rbjax import generate
    model = generate.load_model("runs/composition")
    reference = generate.parse("face", "a.png@10,4,40,40")
    images = generate.generate(model, "smile", [reference], num_images=4)
"""

import argparse
import dataclasses
import sys
import warnings

from rbjax.command_line import ArgumentParser, one_line_errors, set_environment

if __name__ == "__main__":
    set_environment()  # before JAX and TensorFlow are imported

from rbjax import storage
from rbjax.diffusion import sampler
from rbjax.diffusion.guidance import Sampling
from rbjax.inference import generation
from rbjax.inference.generation import default_sampling, generate
from rbjax.inference.model_loading import load_model
from rbjax.inference.reference import Reference, parse
from rbjax.storage import StoredPath
from rbjax.text.concepts import CONCEPTS

__all__ = ["Reference", "generate", "load_model", "main", "parse", "parse_args", "run"]

MEMORY = (
    "make fewer images at once (--num_images; then again with another --seed), smaller ones "
    "(--size), give fewer references or --dtype=bfloat16"
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
    parser = ArgumentParser(
        prog="python -m rbjax.generate",
        description="Generates images from references and a prompt.",
        epilog="A reference is FILE, FILE@left,top,width,height (pixels: the part that shows the "
        "concept) or FILE@MASK (an image, white there). Without box or mask all of it counts. "
        "Give each kind as often as you like.",
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        help="saved model or --workdir of a training (default: the shipped model)",
    )
    add("--prompt", default="", help="comma-joined tags (default: none)")
    for concept in CONCEPTS:
        add(
            f"--{concept}",
            action="append",
            default=[],
            metavar="FILE[@BOX or @MASK]",
            help=f"reference for the {concept}",
        )
    add("--num_images", type=_positive, default=4, help="how many, with seeds SEED, SEED + 1, ...")
    add("--seed", type=int, default=0, help="of the noise; the same seed gives the same image")
    add("--steps", type=_positive, help="calls of the model (default: as in its training)")
    add("--method", choices=sampler.METHODS, help="sampler (default: as in its training)")
    add("--guidance_references", type=float, help="1 = off; above: closer to the references")
    add("--guidance_prompt", type=float, help="1 = off; above: closer to the prompt")
    add(
        "--size",
        type=_size,
        metavar="SIDE or WxH",
        help="pixels of an image (default: as in its training; what it has not seen looks worse)",
    )
    add("--dtype", choices=("float32", "bfloat16"), help="of the computation")
    add("--out", default="generated", help="folder of the PNGs")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _size(text: str) -> int | tuple[int, int]:
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is neither SIDE nor WIDTHxHEIGHT, in pixels")
    numbers = [_positive(side) for side in sides]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def run(args: argparse.Namespace) -> list[StoredPath]:
    """Generates what the command line asks for; returns the files written."""
    texts = [(concept, text) for concept in CONCEPTS for text in getattr(args, concept)]
    references = [parse(concept, text) for concept, text in texts]  # before anything slow
    generation.check_seeds(args.seed, args.num_images)
    out = storage.stored_path(args.out, "--out")
    checkpoint = args.checkpoint and storage.stored_path(args.checkpoint, "--checkpoint")
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out={out} is a file: give a folder")
    storage.make_folder(out)
    model = load_model(checkpoint, args.dtype)
    names = [field.name for field in dataclasses.fields(Sampling)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    sampling = dataclasses.replace(default_sampling(model), **given)
    images = generate(
        model,
        args.prompt,
        references,
        num_images=args.num_images,
        seed=args.seed,
        sampling=sampling,
        size=args.size,
        progress=True,
    )
    settings = {
        "checkpoint": str(checkpoint or "shipped"),
        "prompt": args.prompt,
        "references": texts,
        "seed": args.seed,
        "size": images.shape[1] if isinstance(args.size, int | None) else args.size,
        "dtype": args.dtype or model.config.model.unet.dtype,
        **dataclasses.asdict(sampling),
    }
    return generation.write(out, images, model=model, references=references, settings=settings)


def main() -> None:
    """Runs the command; ends with one line where the user can put something right."""
    args = parse_args()
    warnings.showwarning = lambda message, *_, **__: print(f"Warning: {message}", file=sys.stderr)
    with one_line_errors(MEMORY):
        files = run(args)
        print(f"{len(files) - 1} image(s) and a grid: {files[-1]}")


if __name__ == "__main__":
    main()
