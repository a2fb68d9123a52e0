"""Training examples and their batches: grain shuffles, builds and batches; JAX places on the mesh.

An example is a function of (seed, position in the run): the same run twice reads the same bytes,
and the iterator's state in a checkpoint lets a resumed run continue where it stopped.
"""

import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Any

import grain
import jax
import numpy as np
import tokenizers
from ml_collections import ConfigDict

from rbjax.data import bad_records, order, references, variation
from rbjax.data import crops as crops_lib
from rbjax.data.bad_records import BadRecord
from rbjax.data.crops import Change
from rbjax.data.dataset import Split
from rbjax.data.image_cache import ConceptCrops
from rbjax.data.images import WHITE, shown
from rbjax.data.latent_cache import CachedLatents
from rbjax.data.process_rows import Batches, Rows
from rbjax.data.references import ReferenceChoice
from rbjax.models.batch import Batch
from rbjax.parallel import mesh as meshes
from rbjax.text import prompts
from rbjax.text.concepts import CHARACTER, CLOTHES, CONCEPTS, FACE, carried_kinds


@dataclasses.dataclass(frozen=True)
class Examples(grain.transforms.RandomMap):
    """Builds the example of a target. An example is a `Batch` of numpy arrays without the axis B.

    Attributes:
        split: of the data set.
        crops: of its images.
        tokenizer: of prompts and concept words.
        config: the experiment's `data` section.
        cached: latents and text states to read in place of images and token ids.
        with_all_tags: whether an example has the ids of its target's tags, of all that fit, too.
        skipped: records that cannot be decoded.
    """

    split: Split
    crops: ConceptCrops
    tokenizer: tokenizers.Tokenizer
    config: ConfigDict
    cached: CachedLatents = CachedLatents()
    with_all_tags: bool = False
    skipped: bad_records.Skipped = dataclasses.field(default_factory=bad_records.Skipped)

    def random_map(  # pyrefly: ignore[bad-override]  grain's abstract method has no annotations
        self, element: int, rng: np.random.Generator
    ) -> Batch:
        """Draws the example of the target at position `element`.

        Where a record of it cannot be decoded, the next target of its shape takes its place.

        Raises:
            ValueError: too many records cannot be decoded.
        """
        while True:
            try:
                return self._draw(element, rng)
            except BadRecord as error:
                self.skipped.add(error, self.split)
                element = self.crops.following(element)

    def _draw(self, element: int, rng: np.random.Generator) -> Batch:
        """Draws task, references and what is dropped."""
        task = references.draw_task(self.config.tasks, rng)
        is_composed = task == "composition"
        clusters = self.split.clusters_with_box if is_composed else self.split.clusters
        faces, clothes = self._draw_counts(rng)
        chosen = references.choose(
            clusters,
            element,
            task=task,
            faces=faces,
            clothes=clothes,
            rng=rng,
            clothed=self.split.clusters_with_clothes if is_composed else None,
        )
        images, concepts = chosen.images[chosen.mask], chosen.concepts[chosen.mask]
        chosen = references.pad(images.tolist(), concepts.tolist(), self.size)
        drop_prompt, drop_references = self._draw_drops(rng)
        if drop_references:
            chosen = dataclasses.replace(chosen, mask=np.zeros_like(chosen.mask))
        carried = carried_kinds(chosen.concepts[chosen.mask])
        changes = self._draw_changes(rng)
        tags = [] if drop_prompt else self._vary(self.tags(element, carried), rng)
        return self.example(element, tags, chosen, changes=changes)

    @property
    def size(self) -> int:
        """R, the number of references of every example, padding included."""
        return self.config.faces + self.config.clothes

    @functools.cached_property
    def has_bars(self) -> bool:
        """Whether targets have white bars that the loss leaves out."""
        if not self.config.mask_bars or self.crops.shapes is not None:
            return False
        return bool((self.split.sizes[:, 0] != self.split.sizes[:, 1]).any())

    @functools.cached_property
    def concept_ids(self) -> np.ndarray:
        """int32 [3, Tc] of the concept words."""
        return prompts.encode(self.tokenizer, CONCEPTS, prompts.concept_length(self.tokenizer))

    def example(
        self,
        target: int,
        tags: list[str],
        chosen: ReferenceChoice,
        *,
        changes: Sequence[Change] = (),
    ) -> Batch:
        """Deterministic: builds the arrays of one example.

        Args:
            target: position in the split.
            tags: of the prompt; as many of the first as fit into it.
            chosen: R references.
            changes: R changes of the references' crops; () = none, as the crops are stored.
        """
        image, crops = self._images(target, chosen, changes)
        prompt, concepts = self._texts(tags, chosen)
        return Batch(
            target=image,
            references=crops,
            prompt=prompt,
            concepts=concepts,
            reference_mask=chosen.mask,
            index=np.asarray(target, np.int32),
            all_tags=self.prompt_ids(self.split.tags[target]) if self.with_all_tags else None,
            shown=shown(self.split.sizes[target]) if self.has_bars else None,
        )

    def tags(self, target: int, carried: Collection[str]) -> list[str]:
        """Returns the prompt of a target whose references carry these kinds of tags."""
        tags = self.split.tags[target]
        if self.config.prompt_tags == "all":
            return tags
        return prompts.free_tags(tags, self.split.vocabulary, carried)

    def count_cut(self, most: int = 20_000) -> tuple[int, int]:
        """Counts prompts of examples with all references: (those that are cut, those looked at).

        Where a teacher reads all tags, its prompts, which are the longer ones, are counted.

        Args:
            most: number of targets that are looked at; they are spread over the split.
        """
        tasks = {name for name, weight in self.config.tasks.items() if weight > 0}
        concepts = {CHARACTER} if tasks - {"composition"} else set()
        if "composition" in tasks:
            wanted = ((FACE, self.config.faces), (CLOTHES, self.config.clothes))
            concepts |= {concept for concept, number in wanted if number}
        carried, count = carried_kinds(concepts), len(self.split)
        targets = range(0, count, -(-count // most))
        read = self.split.tags.__getitem__
        if not self.with_all_tags:
            read = functools.partial(self.tags, carried=carried)
        texts = [", ".join(self._spelled(read(target))) for target in targets]
        cut = prompts.are_too_long(self.tokenizer, texts, self.config.max_tokens)
        return sum(cut), len(texts)

    def fitting(self, tags: Sequence[str]) -> list[str]:
        """Returns the first tags, as many as fit into a prompt."""
        spelled = self._spelled(list(tags))
        return list(tags[: len(prompts.fitting(self.tokenizer, spelled, self.config.max_tokens))])

    def prompt_ids(self, tags: list[str]) -> np.ndarray:
        """Encodes the first tags, as many as fit into a prompt: int32 [T]."""
        text = ", ".join(self._spelled(self.fitting(tags)))
        return prompts.encode(self.tokenizer, [text], self.config.max_tokens)[0]

    def _spelled(self, tags: list[str]) -> list[str]:
        """Returns tags as the tokenizer reads them."""
        return [prompts.spaced(t) for t in tags] if self.config.underscores_as_spaces else tags

    def _images(
        self, target: int, chosen: ReferenceChoice, changes: Sequence[Change]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the fields target and references of a batch."""
        moments, targets = self.cached.moments, self.cached.targets
        if moments is None:
            return self.crops.target(target), self._crops(chosen, changes)
        image = moments[target, CHARACTER] if targets is None else targets[target]
        if changes:
            return np.asarray(image), self._crops(chosen, changes)
        choices = zip(chosen.images, chosen.concepts, chosen.mask, strict=True)
        means = np.split(moments, 2, axis=-1)[0]
        blank = np.zeros(means.shape[2:], means.dtype)  # masked: its value is not read
        latents = [means[i, c] if visible else blank for i, c, visible in choices]
        return np.asarray(image), np.stack([blank, *latents])[1:]  # there may be none

    def _crops(self, chosen: ReferenceChoice, changes: Sequence[Change]) -> np.ndarray:
        """Returns the references' crops, uint8 [R, H, W, 3]."""
        crops = np.full((len(chosen.mask), self.crops.size, self.crops.size, 3), WHITE, np.uint8)
        for i in np.flatnonzero(chosen.mask).tolist():
            key = int(chosen.images[i]), int(chosen.concepts[i])
            crops[i] = self.crops.crop(*key, changes[i]) if changes else self.crops[key]
        return crops

    def _texts(self, tags: list[str], chosen: ReferenceChoice) -> tuple[np.ndarray, np.ndarray]:
        """Returns the fields prompt and concepts of a batch."""
        ids, texts = self.prompt_ids(tags), self.cached.texts
        if texts is None:
            return ids, self.concept_ids[chosen.concepts]
        return texts[ids], texts.concepts[chosen.concepts]

    def _draw_counts(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draws (faces, clothes), the numbers of references."""
        faces, clothes = self.config.faces, self.config.clothes
        if not self.config.vary_references:
            return faces, clothes
        drawn_faces = int(rng.integers(min(faces, 1), faces + 1))
        return drawn_faces, int(rng.integers(min(clothes, 1), clothes + 1))

    def _vary(self, tags: list[str], rng: np.random.Generator) -> list[str]:
        """Draws the order of tags, and which of them the prompt names."""
        c = self.config
        return prompts.vary(tags, rng, keep=c.keep_tags, shuffle=c.shuffle_tags, drop=c.drop_tags)

    def _draw_changes(self, rng: np.random.Generator) -> list[Change]:
        """Draws the changes of R crops; [] where the configuration changes none."""
        if self.config.fixed_changes or not variation.changing_fields(self.config):
            return []
        rates = variation.change_rates(self.config)
        return [crops_lib.draw_change(rng, **rates) for _ in range(self.size)]

    def _draw_drops(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """Draws (drop the prompt, drop the references)."""
        without_prompt, without_references, without_both = variation.drop_totals(self.config)
        u = rng.random()
        both, prompt = u < without_both, u < without_prompt
        end = without_prompt + without_references - without_both
        return prompt, both or (not prompt and u < end)


def iterator(
    examples: Examples, *, batch_size: int, seed: int, threads: int, rows: np.ndarray | None = None
) -> Batches:
    """Returns endless batches of shuffled examples, the same in runs of any number of processes.

    Args:
        examples: builds the example of a position.
        batch_size: of all processes together.
        seed: of the order and of what `examples` draws.
        threads: that build examples.
        rows: of a batch that this process needs, see `mesh.local_rows`; None = all.
    """
    rows = np.arange(batch_size) if rows is None else rows
    targets = order.targets(
        examples.split.clusters,
        examples.crops.shapes,
        power=examples.config.character_power,
        batch_size=batch_size,
        seed=seed,
    )
    dataset = Rows(targets.random_map(examples), rows, batch_size)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * len(rows))
    batches = dataset.to_iter_dataset(options).batch(len(rows), drop_remainder=True)
    return Batches(iter(batches), len(rows), batch_size)


def stack(examples: Sequence[Batch]) -> Batch:
    """Stacks examples into a batch."""
    return jax.tree.map(lambda *values: np.stack(values), *examples)


def place(batch: Batch, sharding: jax.sharding.Sharding) -> Batch:
    """Places a process's rows of a batch as arrays over all devices of the mesh."""
    rows, size = meshes.global_rows(sharding, len(batch.reference_mask))
    position = np.zeros(size, np.int32)
    position[rows] = np.arange(len(rows))

    def put(x: np.ndarray) -> jax.Array:
        part: Any = lambda index: x[position[index[0]]]  # noqa: E731  index: a tuple of slices
        return jax.make_array_from_callback((size, *x.shape[1:]), sharding, part)

    return jax.tree.map(put, batch)
