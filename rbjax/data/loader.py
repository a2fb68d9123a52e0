"""Training examples and their batches: grain chooses, decodes and batches; JAX places on the mesh.

An example is a function of (seed, position in the run): the same run twice sees the same bytes,
and the iterator's state in a checkpoint lets a resumed run go on where it stopped.
"""

import dataclasses
import functools
from collections.abc import Sequence

import grain
import jax
import numpy as np
import tokenizers
from ml_collections import ConfigDict

from rbjax.data import images as images_lib
from rbjax.data import references
from rbjax.data.dataset import Split
from rbjax.data.image_cache import Views
from rbjax.data.latent_cache import NOTHING, Stored
from rbjax.models.batch import Batch
from rbjax.text import prompts
from rbjax.text.concepts import CHARACTER, CONCEPTS, carried_kinds


@dataclasses.dataclass(frozen=True)
class Examples(grain.transforms.RandomMap):
    """Makes the example of a target; `config` is the experiment's `data` section."""

    split: Split
    views: Views
    tokenizer: tokenizers.Tokenizer
    config: ConfigDict
    stored: Stored = NOTHING

    def random_map(self, target: int, rng: np.random.Generator) -> Batch:
        task = _weighted(self.config.tasks, rng)
        clusters = self.split.boxed if task == "composition" else self.split.clusters
        chosen = references.choose(clusters, target, task, *self._counts(rng), rng)
        chosen = references.pad(
            list(chosen.images[chosen.mask]), list(chosen.concepts[chosen.mask]), self.size
        )
        no_prompt, no_references = self._drops(rng)
        if no_references:
            chosen = dataclasses.replace(chosen, mask=np.zeros_like(chosen.mask))
        carried = carried_kinds(chosen.concepts[chosen.mask])
        return self.example(target, [] if no_prompt else self.tags(target, carried), chosen)

    @property
    def size(self) -> int:
        """R, the number of references of every example, padding included."""
        return self.config.faces + self.config.clothes

    @functools.cached_property
    def concept_tokens(self) -> int:
        """Tc, the length of every concept word's ids."""
        return prompts.concept_length(self.tokenizer)

    def example(self, target: int, tags: list[str], chosen: references.Chosen) -> Batch:
        """Deterministic: builds the arrays of one example, a `Batch` without its first axis."""
        image, crops = self._images(target, chosen)
        prompt, concepts = self._texts(tags, chosen)
        return Batch(
            target=image,
            references=crops,
            prompt=prompt,
            concepts=concepts,
            reference_mask=chosen.mask,
            index=np.asarray(target, np.int32),
        )

    def tags(self, target: int, carried: set[str]) -> list[str]:
        """The prompt of a target whose references carry these kinds (see CARRIED)."""
        tags = self.split.tags[target]
        if self.config.prompt_tags == "all":
            return tags
        return prompts.free_tags(tags, self.split.vocabulary, carried)

    def prompt_ids(self, tags: list[str]) -> np.ndarray:
        """int32 [T] of the first tags, as many as fit into a prompt."""
        length = self.config.max_tokens
        tags = prompts.fitting(self.tokenizer, tags, length)
        return prompts.encode(self.tokenizer, [", ".join(tags)], length)[0]

    @functools.cached_property
    def concept_ids(self) -> np.ndarray:
        """int32 [3, Tc] of the concept words."""
        return prompts.encode(self.tokenizer, CONCEPTS, self.concept_tokens)

    def _texts(self, tags: list[str], chosen: references.Chosen) -> tuple[np.ndarray, np.ndarray]:
        """Returns the fields prompt and concepts."""
        ids, texts = self.prompt_ids(tags), self.stored.texts
        if texts is None:
            return ids, self.concept_ids[chosen.concepts]
        return texts[ids], texts.concepts[chosen.concepts]

    def _images(self, target: int, chosen: references.Chosen) -> tuple[np.ndarray, np.ndarray]:
        """Returns the fields target and references."""
        pairs = list(zip(chosen.images, chosen.concepts, chosen.mask, strict=True))
        if self.stored.moments is None:
            blank = np.full((self.views.size,) * 2 + (3,), images_lib.WHITE, np.uint8)
            shown = [self.views[i, c] if m else blank for i, c, m in pairs]
            image = np.asarray(self.views[target, CHARACTER])
            return image, np.stack(shown)
        means = np.split(self.stored.moments, 2, axis=-1)[0]
        blank = np.zeros(means.shape[2:], means.dtype)  # masked: its value is not read
        moments = np.asarray(self.stored.moments[target, CHARACTER])
        return moments, np.stack([means[i, c] if m else blank for i, c, m in pairs])

    def _counts(self, rng: np.random.Generator) -> tuple[int, int]:
        """How many faces and clothes this example gets."""
        faces, clothes = self.config.faces, self.config.clothes
        if not self.config.vary_references:
            return faces, clothes
        return tuple(int(rng.integers(min(n, 1), n + 1)) for n in (faces, clothes))

    def _drops(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """(drop the prompt, drop the references)."""
        c, u = self.config, rng.random()
        both = u < c.drop_both
        prompt = both or u < c.drop_both + c.drop_prompt
        return prompt, both or (not prompt and u < c.drop_both + c.drop_prompt + c.drop_references)


def _weighted(weights: ConfigDict, rng: np.random.Generator) -> str:
    """A task, drawn by its weight."""
    names = sorted(weights)
    cumulative = np.cumsum([weights[name] for name in names])
    return names[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]


def iterator(examples: Examples, batch_size: int, seed: int, threads: int) -> grain.DatasetIterator:
    """Batches of shuffled examples without end; each process gets its own share.

    Args:
        examples: makes an example of a position.
        batch_size: of all processes together.
        seed: of order and chance.
        threads: that prepare examples.
    """
    count = jax.process_count()
    targets = grain.MapDataset.range(len(examples.split)).seed(seed).shuffle().repeat()
    dataset = targets[jax.process_index() :: count] if count > 1 else targets
    dataset = dataset.random_map(examples)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * batch_size)
    return iter(dataset.to_iter_dataset(options).batch(batch_size // count, drop_remainder=True))


def stack(examples: Sequence[Batch]) -> Batch:
    """Stacks examples into a batch."""
    return jax.tree.map(lambda *values: np.stack(values), *examples)


def place(batch: Batch, sharding: jax.sharding.Sharding) -> Batch:
    """Places a process's part of a batch as arrays over all devices of the mesh."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
