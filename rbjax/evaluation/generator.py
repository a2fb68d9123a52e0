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
from rbjax.diffusion.guidance import make_generate
from rbjax.evaluation.suite import Case
from rbjax.evaluation.transformations import TRANSFORMATIONS
from rbjax.experiment.setup import Experiment
from rbjax.models.batch import Batch
from rbjax.models.params import Tree
from rbjax.models.pixels import to_float
from rbjax.parallel import mesh as mesh_lib
from rbjax.text import prompts
from rbjax.text.concepts import CHARACTER, CLOTHES


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
        self._sharding = mesh_lib.batch_sharding(experiment.mesh)
        self._generate = jax.jit(generate, out_shardings=mesh_lib.replicated(experiment.mesh))

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
    ) -> np.ndarray:
        """Returns float32 [N, H, W, 3] in [-1, 1].

        Args:
            params: of the pipeline.
            cases: N cases.
            blank: generate without references.
            references_of: N cases that give the references in place of `cases`.
        """
        sources = cases if references_of is None else references_of
        pairs = list(zip(cases, sources, strict=True))
        size = max(self.examples.size, *(len(source.references) for source in sources))
        examples = functools.partial(self._example, size=size, blank=blank)
        starts = range(0, len(pairs), self.batch_size)
        images = [
            self._generate_batch(params, pairs[start : start + self.batch_size], examples)
            for start in tqdm.tqdm(starts, desc="generating", leave=False)
        ]
        return np.concatenate(images)

    def read_images(self, positions: Sequence[int]) -> np.ndarray:
        """Reads the entire images of records, float32 [N, H, W, 3] in [-1, 1]."""
        images = [self.examples.crops[int(i), CHARACTER] for i in positions]
        return to_float(np.stack(images))

    def grid(self, cases: Sequence[Case], generated: np.ndarray) -> Image.Image:
        """Draws a row a case: crops of the references | generated | a real image of that outfit.

        Args:
            cases: N cases.
            generated: their images, float32 [N, H, W, 3] in [-1, 1].
        """
        rows = []
        for case, image in zip(cases, generated, strict=True):
            crops = to_float(np.asarray(self._example(case, case, self.examples.size).references))
            real = case.real if case.real is not None else case.references[-1]
            rows.append([*crops, image, *self.read_images([real])])
        return images_lib.grid(rows, scale=2)

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
        example = self.examples.example(source.references[0], list(case.prompt), padded)
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
        self, params: Tree, pairs: Sequence[tuple[Case, Case]], example: Callable[..., Batch]
    ) -> np.ndarray:
        """Returns the images of at most `batch_size` cases with the references of others."""
        filled = [*pairs, *[pairs[0]] * (self.batch_size - len(pairs))]
        batch = loader.stack([example(*pair) for pair in filled])
        seeds = np.array([case.seed for case, _ in filled], np.uint32)
        placed = jax.device_put((batch, seeds), self._sharding)  # every process has all of it
        images = self._generate(params, *placed)
        return np.asarray(images)[: len(pairs)]
