"""References and a prompt to images, and the images to files."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from absl import logging
from PIL import Image, PngImagePlugin

from rbjax.data import images as images_lib
from rbjax.data import loader
from rbjax.diffusion.guidance import Sampling, make_generate
from rbjax.inference.reference import Reference
from rbjax.interop.saved_model import Model
from rbjax.models.batch import Batch
from rbjax.text import prompts
from rbjax.text.concepts import CONCEPTS
from rbjax.text.tokenizer import UNKNOWN

GRID_PIXELS = 192  # smallest side of a picture in the grid


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
    check_seeds(seed, num_images)
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
    return images_lib.to_uint8(images)


def check_seeds(seed: int, num_images: int) -> None:
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
    blank = np.full((size, size, 3), images_lib.WHITE, np.uint8)
    return [reference.view(size, data.view) for reference in references] or [blank]


def _example(
    model: Model, prompt: str, views: list[np.ndarray], references: Sequence[Reference]
) -> Batch:
    """Returns an example without a batch axis; without references one blank image is masked."""
    concepts = [reference.concept for reference in references] or [CONCEPTS[0]]
    length = prompts.concept_length(model.tokenizer)
    return Batch(
        target=views[0],  # only its shape is read
        prompt=prompts.encode(model.tokenizer, [prompt], model.config.data.max_tokens)[0],
        references=np.stack(views),
        concepts=prompts.encode(model.tokenizer, concepts, length),
        reference_mask=np.full(len(concepts), bool(references)),
    )


def _warn_of_unknown_words(model: Model, prompt: str) -> None:
    unknown = model.tokenizer.token_to_id(UNKNOWN)
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
    rows = [[images_lib.to_float(image) for image in row] for row in (shown, images) if len(row)]
    grid = images_lib.grid(rows, scale=max(1, GRID_PIXELS // size))
    files.append(out / "grid.png")
    grid.save(files[-1], pnginfo=_metadata(settings | {"num_images": len(images)}))
    return files


def _metadata(settings: dict) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("rbjax", json.dumps(settings))
    return info
