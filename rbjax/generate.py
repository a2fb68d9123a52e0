"""References and a prompt to images, with a saved or a trained model.

    python -m rbjax.generate --prompt "smile, night sky" --face a.png --clothes b.png --out images

From Python:

    from rbjax import generate
    model = generate.load_model("runs/composition")
    images = generate.generate(model, "smile", [generate.parse("face", "a.png@10,4,40,40")])
"""

import argparse
import dataclasses
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from absl import logging
from PIL import Image, PngImagePlugin

from rbjax.data import loader, prompts, transforms
from rbjax.data.reference_images import Reference, parse
from rbjax.data.references import CONCEPTS
from rbjax.diffusion import sampler
from rbjax.evaluation import pictures
from rbjax.guidance import Sampling, make_generate
from rbjax.interop import model_folder
from rbjax.interop.model_folder import Model
from rbjax.train import trained

SHIPPED = Path(__file__).parent / "weights" / "avatars"
MEMORY = (
    "make fewer images at once (--num_images; then again with another --seed), smaller ones "
    "(--size), give fewer references or --dtype=bfloat16"
)
GRID_PIXELS = 192  # smallest side of a picture in the grid


def load_model(checkpoint: str | Path | None = None, dtype: str | None = None) -> Model:
    """Opens a saved model (see interop/model_folder.py) or the working directory of a training.

    Args:
      checkpoint: the folder; None = the model that ships with the package.
      dtype: of the computation; None = float32 for a saved model, else as in the training.

    Raises:
      FileNotFoundError: the folder holds neither.
    """
    folder = SHIPPED if checkpoint is None else Path(checkpoint).expanduser()
    if (folder / model_folder.INDEX).is_file():
        return model_folder.load(folder, dtype or "float32")
    if (folder / "checkpoints").is_dir():
        return trained.load(folder, dtype)
    if checkpoint is None:
        raise FileNotFoundError(f"no model ships in {folder}: train one and give --checkpoint")
    raise FileNotFoundError(
        f"--checkpoint={folder} holds no model: expected {model_folder.INDEX} (a saved model) or "
        "checkpoints/ (the --workdir of a training)"
    )


def generate(
    model: Model,
    prompt: str,
    references: Sequence[Reference] = (),
    num_images: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    progress: bool = False,
    size: int | None = None,
) -> np.ndarray:
    """Generates images; the same arguments give the same bytes.

    Args:
      model: see `load_model`.
      prompt: comma-joined tags; words that the model does not know are warned about.
      references: any number, also none.
      num_images: image i has the seed `seed` + i.
      seed: of the noise, 0 to 2**32 - num_images.
      sampling: steps, method and guidance; None = those of the model's training.
      progress: show a bar over the steps.
      size: H = W of the images and of the references' views in pixels; None = as in training.

    Returns:
      uint8 [num_images, H, W, 3].

    Raises:
      ValueError: the prompt is too long, or a number or a sampling setting is impossible.
    """
    _check_seeds(seed, num_images)
    sampling = sampling or default_sampling(model)
    _warn_of_unknown_words(model, prompt)
    example = _example(model, prompt, _views(model, references, size), references)
    batch = loader.stack([example] * num_images)
    empty = prompts.encode(model.tokenizer, [""], model.config.data.max_tokens)[0]
    with tqdm.tqdm(total=sampling.steps, desc="sampling", disable=not progress) as bar:
        on_step = bar.update if progress else None  # with it, JAX does not cache the compilation
        run = make_generate(model.graphdef, model.schedule, sampling, jnp.asarray(empty), on_step)
        seeds = np.arange(seed, seed + num_images).astype(np.uint32)
        images = np.asarray(jax.jit(run)(model.params, batch, seeds))
        jax.effects_barrier()  # the last call of the bar
    return transforms.to_uint8(images)


def _check_seeds(seed: int, num_images: int) -> None:
    if num_images < 1:
        raise ValueError(f"num_images {num_images}: must be at least 1")
    if not 0 <= seed <= 2**32 - num_images:
        raise ValueError(f"seed {seed} for {num_images} images: seeds are 0 to 2**32 - 1")


def default_sampling(model: Model) -> Sampling:
    """The settings of the model's training."""
    return Sampling.from_config(model.config.sampling)


def _views(model: Model, references: Sequence[Reference], size: int | None) -> list[np.ndarray]:
    """What the model sees of the references, uint8 [size, size, 3], or a blank if there is none."""
    data, latents = model.config.data, model.config.model
    size = data.size if size is None else size
    factor = latents.patch or 2 ** (len(latents.vae.block_out_channels) - 1)
    if size < 1 or size % factor:
        raise ValueError(f"size {size}: must be a multiple of {factor}, the pixels of a latent")
    blank = np.full((size, size, 3), transforms.WHITE, np.uint8)
    return [reference.view(size, data.view) for reference in references] or [blank]


def _example(
    model: Model, prompt: str, views: list[np.ndarray], references: Sequence[Reference]
) -> dict[str, np.ndarray]:
    """The arrays of data/loader.py; the blank of a model that is given no reference is masked."""
    concepts = [reference.concept for reference in references] or [CONCEPTS[0]]
    length = prompts.concept_length(model.tokenizer)
    return {
        "image": views[0],  # only its shape is read
        "prompt_ids": prompts.encode(model.tokenizer, [prompt], model.config.data.max_tokens)[0],
        "references": np.stack(views),
        "concept_ids": prompts.encode(model.tokenizer, concepts, length),
        "reference_mask": np.full(len(concepts), bool(references)),
    }


def _warn_of_unknown_words(model: Model, prompt: str) -> None:
    unknown = model.tokenizer.token_to_id(prompts.UNKNOWN)
    encoding = model.tokenizer.encode(prompt)
    pairs = zip(encoding.ids, encoding.offsets, strict=True)
    words = [prompt[start:end] for token, (start, end) in pairs if token == unknown]
    if words:
        logging.warning(
            "the model does not know %s: no image of its training was described so",
            ", ".join(map(repr, words)),
        )


def write(
    images: np.ndarray, model: Model, references: Sequence[Reference], settings: dict, out: Path
) -> list[Path]:
    """Writes SEED.png of every image, and grid.png: the references above, the images below.

    Args:
      images: of `generate`.
      model: that made them.
      references: shown in the grid as the model saw them.
      settings: go into the PNGs' metadata as JSON, under the key `rbjax`.
      out: folder that exists.

    Returns:
      The files.
    """
    files = []
    for i, image in enumerate(images):
        seed = settings["seed"] + i
        files.append(out / f"{seed:06d}.png")
        Image.fromarray(image).save(files[-1], pnginfo=_metadata(settings | {"seed": seed}))
    size = images.shape[1]
    shown = _views(model, references, size) if references else []
    rows = [[transforms.to_float(image) for image in row] for row in (shown, images) if len(row)]
    grid = pictures.grid(rows, scale=max(1, GRID_PIXELS // size))
    files.append(out / "grid.png")
    grid.save(files[-1], pnginfo=_metadata(settings | {"num_images": len(images)}))
    return files


def _metadata(settings: dict) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("rbjax", json.dumps(settings))
    return info


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line (`argv` in its place)."""
    parser = argparse.ArgumentParser(
        prog="python -m rbjax.generate",
        description="Generates images from references and a prompt.",
        epilog="A reference is FILE, FILE@left,top,width,height (pixels: the part that shows the "
        "concept) or FILE@MASK (an image, white there). Without box or mask all of it counts. "
        "Give each kind as often as you like.",
    )
    add = parser.add_argument
    add("--checkpoint", help="saved model or --workdir of a training (default: the shipped model)")
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
        type=_positive,
        help="pixels of an image's side (default: as in its training; others look worse)",
    )
    add("--dtype", choices=("float32", "bfloat16"), help="of the computation")
    add("--out", type=Path, default=Path("generated"), help="folder of the PNGs")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def run(args: argparse.Namespace) -> list[Path]:
    """Does what the command line asks; returns the files written."""
    texts = [(concept, text) for concept in CONCEPTS for text in getattr(args, concept)]
    references = [parse(concept, text) for concept, text in texts]  # before anything slow
    _check_seeds(args.seed, args.num_images)
    if args.out.exists() and not args.out.is_dir():
        raise FileExistsError(f"--out={args.out} is a file: give a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    model = load_model(args.checkpoint, args.dtype)
    names = [field.name for field in dataclasses.fields(Sampling)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    sampling = dataclasses.replace(default_sampling(model), **given)
    images = generate(
        model,
        args.prompt,
        references,
        args.num_images,
        args.seed,
        sampling,
        progress=True,
        size=args.size,
    )
    settings = {
        "checkpoint": args.checkpoint or "shipped",
        "prompt": args.prompt,
        "references": texts,
        "seed": args.seed,
        "size": images.shape[1],
        "dtype": args.dtype or model.config.model.unet.dtype,
        **dataclasses.asdict(sampling),
    }
    return write(images, model, references, settings, args.out)


def main() -> None:
    """The command; ends with one line where the user can put something right."""
    args = parse_args()
    warnings.showwarning = lambda message, *_, **__: print(f"Warning: {message}", file=sys.stderr)
    try:
        files = run(args)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        sys.exit(f"Error: not enough memory on the device: {MEMORY}")
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    print(f"{len(files) - 1} image(s) and a grid: {files[-1]}")


if __name__ == "__main__":
    main()
