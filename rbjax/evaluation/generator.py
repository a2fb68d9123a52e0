"""Lets a trained pipeline generate the cases of a suite, in batches of one shape."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from ml_collections import ConfigDict
from PIL import Image

from rbjax.data import images as images_lib
from rbjax.data import loader, references
from rbjax.data.loader import Examples
from rbjax.diffusion.guidance import make_generate
from rbjax.evaluation.suite import Case
from rbjax.models.batch import Batch
from rbjax.parallel import mesh as meshes
from rbjax.text import prompts
from rbjax.text.concepts import CHARACTER, CONCEPTS


class Painter:
    """Generates images of cases with parameters that may change.

    Attributes:
        params: of the pipeline; set before painting.
    """

    def __init__(self, experiment, examples: Examples, batch_size: int):
        """Prepares, without compiling.

        Args:
            experiment: see experiment/setup.py.
            examples: of the split that the cases are about.
            batch_size: images generated at once.
        """
        config: ConfigDict = experiment.config
        self.examples, self.batch_size, self.params = examples, batch_size, None
        empty = prompts.encode(experiment.tokenizer, [""], config.data.max_tokens)[0]
        generate = make_generate(
            experiment.graphdef,
            schedule=experiment.schedule,
            sampling=experiment.sampling,
            empty_prompt=jnp.asarray(empty),
        )
        self.sharding = meshes.batch_sharding(experiment.mesh)
        self._generate = jax.jit(generate, out_shardings=meshes.replicated(experiment.mesh))

    def __call__(
        self, cases: Sequence[Case], blank: bool, swap: Sequence[Case] | None
    ) -> np.ndarray:
        """Returns float32 [N, H, W, 3] in [-1, 1]; see evaluation/baselines.py."""
        sources = cases if swap is None else swap
        pairs = list(zip(cases, sources, strict=True))
        starts = range(0, len(pairs), self.batch_size)
        images = [
            self._batch(pairs[start : start + self.batch_size], blank)
            for start in tqdm.tqdm(starts, desc="generating", leave=False)
        ]
        return np.concatenate(images)

    def images(self, positions: Sequence[int]) -> np.ndarray:
        """Whole images of records, float32 [N, H, W, 3] in [-1, 1]."""
        whole = [self.examples.crops[int(i), CHARACTER] for i in positions]
        return images_lib.to_float(np.stack(whole))

    def grid(self, cases: Sequence[Case], generated: np.ndarray) -> Image.Image:
        """One row a case: what the references show | generated | a real image of that outfit.

        Args:
            cases: N cases.
            generated: their images, float32 [N, H, W, 3] in [-1, 1].
        """
        lines = []
        for case, image in zip(cases, generated, strict=True):
            shown = self.example(case, case, blank=False).references
            shown = images_lib.to_float(np.asarray(shown))
            real = case.real if case.real is not None else case.references[-1]
            lines.append([*shown, image, *self.images([real])])
        return images_lib.grid(lines, scale=2)

    def example(self, case: Case, source: Case, blank: bool) -> Batch:
        """What the model reads for a case with the references of `source`, without a batch axis."""
        concepts = [CONCEPTS.index(name) for name in source.concepts]
        chosen = references.pad(list(source.references), concepts, self.examples.size)
        if blank:
            chosen = references.pad([], [], self.examples.size)
        return self.examples.example(source.references[0], list(case.prompt), chosen)

    def _batch(self, pairs: list[tuple[Case, Case]], blank: bool) -> np.ndarray:
        filled = pairs + [pairs[0]] * (self.batch_size - len(pairs))
        batch = loader.stack([self.example(case, source, blank) for case, source in filled])
        seeds = np.array([case.seed for case, _ in filled], np.uint32)
        placed = jax.device_put((batch, seeds), self.sharding)  # every process has all of it
        images = self._generate(self.params, *placed)
        return np.asarray(images)[: len(pairs)]
