"""References and a prompt to images, and the images to files."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from absl import logging
from flax import nnx
from PIL import Image, PngImagePlugin

from rbjax.data import images as images_lib
from rbjax.data import loader
from rbjax.diffusion.guidance import Sampling, make_traced_generate
from rbjax.diffusion.schedule import Schedule
from rbjax.evaluation import saved_images
from rbjax.inference.reference import Reference
from rbjax.interop.saved_model import SPACES, Model
from rbjax.models import pixels
from rbjax.models.batch import Batch
from rbjax.models.params import Tree
from rbjax.models.pipeline import latent_pixels
from rbjax.storage import StoredPath
from rbjax.text import prompts
from rbjax.text.concepts import CONCEPTS
from rbjax.text.tokenizer import unknown_words

GRID_PIXELS = 192  # smallest side of an image in the grid

Size = int | tuple[int, int] | None  # H = W of images, or (W, H), in pixels; None: as in training


@dataclasses.dataclass(frozen=True, eq=False)
class Sampled:
    """Images, and what they were made from.

    Attributes:
        images: uint8 [N, H, W, 3].
        latents: that the model was given at each step, float32 [steps, N, h, w, C].
        batch: prompts, references and mask as the model read them; the target is a placeholder.
        sampling: the settings.
    """

    images: np.ndarray
    latents: jax.Array
    batch: Batch
    sampling: Sampling


def generate(
    model: Model,
    prompt: str,
    references: Sequence[Reference] = (),
    *,
    num_images: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    size: Size = None,
    progress: bool = False,
) -> np.ndarray:
    """Generates images; the same arguments give the same bytes.

    The first call with a number of images and references, a size, a number of steps and a method
    compiles the sampler; further calls use it again, whatever their prompt, seed, references and
    guidance (one that is off, or two that are equal, make a smaller program).

    Args:
        model: see `load_model`.
        prompt: comma-joined tags; words that the model does not know are warned about.
        references: any number, also none.
        num_images: image i has the seed `seed` + i.
        seed: of the noise, 0 to 2**32 - num_images.
        sampling: steps, method and guidance; None = those of the model's training.
        size: of the images in pixels; a single number is that of the references' crops, too.
        progress: show a bar over the steps.

    Returns:
        uint8 [num_images, H, W, 3].

    Raises:
        ValueError: the prompt is too long, or a number or a sampling setting is impossible.
    """
    return sample(
        model,
        prompt,
        references,
        num_images=num_images,
        seed=seed,
        sampling=sampling,
        size=size,
        progress=progress,
    ).images


def sample(
    model: Model,
    prompt: str,
    references: Sequence[Reference] = (),
    *,
    num_images: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    size: Size = None,
    progress: bool = False,
) -> Sampled:
    """Generates images and keeps what they were made from; arguments as of `generate`."""
    check_seeds(seed, num_images)
    sampling = sampling or default_sampling(model)
    _warn_of_unknown_words(model, prompt)
    width, height = _shape(model, size)
    blank = np.full((height, width, 3), images_lib.WHITE, np.uint8)
    crops = _crops(model, references, size)
    concepts = [reference.concept for reference in references]
    example = _example(model, prompt, target=blank, crops=crops, concepts=concepts)
    batch = loader.stack([example] * num_images)
    empty = prompts.encode(model.tokenizer, [""], model.config.data.max_tokens)[0]
    with _progress_bar(sampling.steps) if progress else contextlib.nullcontext():
        images, latents = _sample(
            model.params,
            batch,
            np.arange(seed, seed + num_images).astype(np.uint32),
            weights=np.array([w for w in sampling.weights() if w], np.float32),
            empty_prompt=empty,
            graphdef=model.graphdef,
            schedule=model.schedule,
            sampling=sampling.fixed_guidance(),
            on_step=_advance_bar if progress else None,
        )
        return Sampled(pixels.to_uint8(np.asarray(images)), latents, batch, sampling)


@functools.partial(jax.jit, static_argnames=("graphdef", "schedule", "sampling", "on_step"))
def _sample(
    params: Tree,
    batch: Batch,
    seeds: jax.Array,
    *,
    weights: jax.Array,
    empty_prompt: jax.Array,
    graphdef: nnx.GraphDef,
    schedule: Schedule,
    sampling: Sampling,
    on_step: Callable[[], None] | None,
) -> tuple[jax.Array, jax.Array]:
    """Returns what `make_traced_generate` says.

    JAX keeps one program for each set of shapes and settings.
    With `on_step` a program is not stored in JAX's compilation cache on disk.
    """
    run = make_traced_generate(
        graphdef,
        schedule=schedule,
        sampling=sampling,
        empty_prompt=empty_prompt,
        on_step=on_step,
        weights=weights,
    )
    return run(params, batch, seeds)


_bars: list[tqdm.tqdm] = []  # of the calls that run


def _advance_bar() -> None:
    """Advances the newest bar; one function for all calls, as a new one would compile again."""
    if _bars:
        _bars[-1].update()


@contextlib.contextmanager
def _progress_bar(steps: int) -> Iterator[None]:
    with tqdm.tqdm(total=steps, desc="sampling") as bar:
        _bars.append(bar)
        try:
            yield
            jax.effects_barrier()  # waits for the last step's callback
        finally:
            _bars.remove(bar)


def check_seeds(seed: int, num_images: int) -> None:
    """Raises ValueError unless there is at least one image and each has a seed of 32 bits."""
    if num_images < 1:
        raise ValueError(f"num_images {num_images}: must be at least 1")
    if not 0 <= seed <= 2**32 - num_images:
        raise ValueError(f"seed {seed} for {num_images} images: seeds are 0 to 2**32 - 1")


def default_sampling(model: Model) -> Sampling:
    """Returns the settings of the model's training."""
    return Sampling.from_config(model.config.sampling)


def _shape(model: Model, size: Size) -> tuple[int, int]:
    """Returns width and height of the images.

    Raises:
        ValueError: a side is no whole number of latents.
    """
    size, factor = size or model.config.data.size, latent_pixels(model.config.model)
    width, height = size if isinstance(size, tuple) else (size, size)
    for side in (width, height):
        if side < 1 or side % factor:
            raise ValueError(f"size {side}: must be a multiple of {factor}, the pixels of a latent")
    return width, height


def _crops(model: Model, references: Sequence[Reference], size: Size) -> list[np.ndarray]:
    """Returns the references' crops, uint8 [side, side, 3], or a blank one if there is none."""
    data = model.config.data
    side = size if isinstance(size, int) else data.size
    blank = np.full((side, side, 3), images_lib.WHITE, np.uint8)
    return [reference.crop(side, data.view) for reference in references] or [blank]


def _example(
    model: Model,
    prompt: str,
    *,
    target: np.ndarray,
    crops: Sequence[np.ndarray],
    concepts: Sequence[str],
) -> Batch:
    """Returns an example without a batch axis; without references its one crop is masked."""
    words = concepts or [CONCEPTS[0]]
    length = prompts.concept_length(model.tokenizer)
    return Batch(
        target=target,  # only its shape is read
        prompt=prompts.encode(
            model.tokenizer, [_spelled(model, prompt)], model.config.data.max_tokens
        )[0],
        references=np.stack(crops),
        concepts=prompts.encode(model.tokenizer, words, length),
        reference_mask=np.full(len(words), bool(concepts)),
    )


def _spelled(model: Model, prompt: str) -> str:
    is_spaced = model.config.data.get(SPACES, False)  # older saved models lack it
    return prompts.spelled(prompt, underscores_as_spaces=is_spaced)


def _warn_of_unknown_words(model: Model, prompt: str) -> None:
    words = unknown_words(_spelled(model, prompt), model.tokenizer)
    if words:
        logging.warning(
            "the model does not know %s: no image of its training was described so",
            ", ".join(map(repr, words)),
        )


def write(
    out: StoredPath,
    images: np.ndarray,
    *,
    model: Model,
    references: Sequence[Reference],
    settings: Mapping[str, Any],
) -> list[StoredPath]:
    """Writes SEED.png of every image, and grid.png: the references above, the images below.

    Args:
        out: folder.
        images: uint8 [N, H, W, 3], of `generate`.
        model: that made them.
        references: for the grid, cropped as the model reads them.
        settings: of `generate`; go into the PNGs' metadata as JSON, under the key `rbjax`.

    Returns:
        The files, the grid last.
    """
    files = []
    for i, image in enumerate(images):
        info = {**settings, "seed": settings["seed"] + i}
        files.append(out / f"{info['seed']:06d}.png")
        saved_images.write(Image.fromarray(image), files[-1], _metadata(info))
    height, width = images.shape[1:3]
    crops = _crops(model, references, height if height == width else None) if references else []
    side = max(width, height)
    squares = [[images_lib.resize(image, side) for image in row] for row in (crops, images)]
    rows = [[pixels.to_float(image) for image in row] for row in squares if row]
    grid = images_lib.grid(rows, scale=max(1, GRID_PIXELS // side))
    files.append(out / "grid.png")
    saved_images.write(grid, files[-1], _metadata({**settings, "num_images": len(images)}))
    return files


def _metadata(settings: Mapping[str, Any]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("rbjax", json.dumps(settings))
    return info
