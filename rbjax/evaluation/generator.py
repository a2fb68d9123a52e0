"""Lets a pipeline generate the cases of a suite, in batches of one shape."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from PIL import Image

from rbjax.data import crops as crops_lib
from rbjax.data import images as images_lib
from rbjax.data import loader, references
from rbjax.data.loader import Examples
from rbjax.diffusion.guidance import FIXED, make_generate, make_traced_generate
from rbjax.evaluation.suite import Case
from rbjax.evaluation.transformations import TRANSFORMATIONS
from rbjax.experiment.setup import Experiment
from rbjax.models.batch import Batch
from rbjax.models.params import Tree
from rbjax.models.pixels import to_float, to_uint8
from rbjax.parallel import mesh as mesh_lib
from rbjax.text import prompts
from rbjax.text.concepts import CHARACTER, CLOTHES

HEAD = 72  # pixels of an image in a grid at least: its head is to be read


class CaseGenerator:
    """Generates images of cases, and reads the real ones that they are compared with."""

    def __init__(self, experiment: Experiment, examples: Examples, batch_size: int) -> None:
        """Prepares, without compiling.

        Args:
            experiment: gives pipeline, schedule and sampling.
            examples: of the split that the cases are about.
            batch_size: images generated at once.
        """
        config = experiment.config
        self.examples, self.batch_size = examples, batch_size
        empty = prompts.encode(experiment.tokenizer, [""], config.data.max_tokens)[0]
        generate = make_generate(
            experiment.graphdef,
            schedule=experiment.schedule,
            sampling=experiment.sampling,
            empty_prompt=jnp.asarray(empty),
        )
        whole = mesh_lib.replicated(experiment.mesh)
        self._sharding = mesh_lib.batch_sharding(experiment.mesh)
        self._generate = jax.jit(generate, out_shardings=whole)
        self._sampling = experiment.sampling
        every = self._sampling.with_guidance(*FIXED[0])

        def guided(params: Tree, batch: Batch, seeds: jax.Array, weights: jax.Array) -> jax.Array:
            made = make_traced_generate(
                experiment.graphdef,
                schedule=experiment.schedule,
                sampling=every,
                empty_prompt=jnp.asarray(empty),
                weights=weights,
            )
            return made(params, batch, seeds)[0]

        self._guided = jax.jit(guided, out_shardings=whole)

    def of(self, examples: Examples) -> "CaseGenerator":
        """Returns the generator of another split's cases; it compiles nothing anew."""
        other = copy.copy(self)
        other.examples = examples
        return other

    def generate(
        self,
        params: Tree,
        cases: Sequence[Case],
        *,
        blank: bool = False,
        references_of: Sequence[Case] | None = None,
        guidance: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """Returns float32 [N, H, W, 3] in [-1, 1]; other shapes than squares get white bars.

        Args:
            params: of the pipeline.
            cases: N cases.
            blank: generate without references.
            references_of: N cases that give the references in place of `cases`.
            guidance: for references and for the prompt, in place of the experiment's.
        """
        sources = cases if references_of is None else references_of
        pairs = list(zip(cases, sources, strict=True))
        count = max(self.examples.size, *(len(source.references) for source in sources))
        example = functools.partial(self._example, size=count, blank=blank)
        side = self.examples.crops.size
        images = np.empty((len(cases), side, side, 3), np.float32)
        for batch in tqdm.tqdm(self._batches(cases), desc="generating", leave=False):
            made = self._generate_batch(params, [pairs[i] for i in batch], example, guidance)
            images[batch] = made if made.shape[1:3] == (side, side) else _squares(made, side)
        return images

    def _batches(self, cases: Sequence[Case]) -> list[list[int]]:
        """Returns the positions of at most `batch_size` cases of one shape, for each batch."""
        shapes = self.examples.crops.shapes
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, case in enumerate(cases):
            shape = () if shapes is None else tuple(shapes[_target(case)].tolist())
            groups.setdefault(shape, []).append(i)
        return [
            group[start : start + self.batch_size]
            for group in groups.values()
            for start in range(0, len(group), self.batch_size)
        ]

    def read_images(self, positions: Sequence[int]) -> np.ndarray:
        """Reads the entire images of records, float32 [N, H, W, 3] in [-1, 1]."""
        images = [self.examples.crops[int(i), CHARACTER] for i in positions]
        return to_float(np.stack(images))

    def grid(self, cases: Sequence[Case], generated: np.ndarray) -> Image.Image:
        """Draws a row a case: crops of the references | generated | a real image of that outfit.

        Above each row stands its prompt.

        Args:
            cases: N cases.
            generated: their images, float32 [N, H, W, 3] in [-1, 1].
        """
        rows = []
        for case, image in zip(cases, generated, strict=True):
            crops = to_float(np.asarray(self._example(case, case, self.examples.size).references))
            real = case.real if case.real is not None else case.references[-1]
            rows.append([*crops, image, *self.read_images([real])])
        count = len(rows[0]) - 2
        heads = [*(f"reference {n + 1}" for n in range(count)), "generated", "real image"]
        prompted = [", ".join(case.prompt) or "empty prompt" for case in cases]
        return images_lib.captioned(rows, heads, prompted, max(2, -(-HEAD // rows[0][0].shape[1])))

    def _example(self, case: Case, source: Case, size: int, *, blank: bool = False) -> Batch:
        """Returns the example of a case with the references of `source`, without a batch axis.

        Args:
            case: gives the prompt.
            source: gives the references.
            size: number of references, padding included.
            blank: leave the references out.
        """
        positions, concepts = ([], []) if blank else (source.references, source.concepts)
        padded = references.pad(list(positions), list(concepts), size)
        example = self.examples.example(_target(case), list(case.prompt), padded)
        if blank or not source.transformation:
            return example
        crops = np.array(example.references)
        for number, pair in enumerate(zip(positions, concepts, strict=True)):
            crops[number] = self._transformed(*pair, source.transformation)
        return dataclasses.replace(example, references=crops)

    def _transformed(self, position: int, concept: int, name: str) -> np.ndarray:
        """Returns the crop of a concept from a transformed record."""
        crops = self.examples.crops
        return crops_lib.crop_concept(
            TRANSFORMATIONS[name](self.read_record(position)),
            concept,
            size=crops.size,
            view=crops.view,
            change=crops.plain,
        )

    def read_record(self, position: int) -> Mapping[str, Any]:
        """Reads what `crops.crop_concept` needs of a record, for every concept."""
        crops = self.examples.crops
        return (crops.pictures or crops.split.crop_records[CLOTHES])[position]

    def _generate_batch(
        self,
        params: Tree,
        pairs: Sequence[tuple[Case, Case]],
        example: Callable[..., Batch],
        guidance: tuple[float, float] | None,
    ) -> np.ndarray:
        """Returns the images of at most `batch_size` cases with the references of others."""
        filled = [*pairs, *[pairs[0]] * (self.batch_size - len(pairs))]
        batch = loader.stack([example(*pair) for pair in filled])
        seeds = np.array([case.seed for case, _ in filled], np.uint32)
        placed = jax.device_put((batch, seeds), self._sharding)  # every process has all of it
        if guidance is None:
            return np.asarray(self._generate(params, *placed))[: len(pairs)]
        weights = np.array(self._sampling.with_guidance(*guidance).weights(), np.float32)
        return np.asarray(self._guided(params, *placed, weights))[: len(pairs)]


def _target(case: Case) -> int:
    """Returns the position of the image whose shape a case's image gets."""
    return case.references[0] if case.real is None else case.real


def _squares(images: np.ndarray, size: int) -> np.ndarray:
    """Fits images [N, H, W, 3] in [-1, 1] into white squares, as real ones are shown and scored.

    One that is not finite becomes NaN, so that it is counted as such.
    """
    is_finite = np.isfinite(images).all(axis=(1, 2, 3), keepdims=True)
    fitted = [images_lib.resize(to_uint8(np.nan_to_num(image)), size) for image in images]
    return np.where(is_finite, to_float(np.stack(fitted)), np.nan)
