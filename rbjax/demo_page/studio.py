"""A model that is open, with its vocabulary and its judge, and the images that it makes."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from rbjax.demo_page import tags
from rbjax.demo_page.judge import Answer, Judge, Wanted
from rbjax.demo_page.settings import Settings
from rbjax.demo_page.tags import Vocabulary
from rbjax.diffusion.guidance import Sampling
from rbjax.inference import generation
from rbjax.inference.model_loading import load_model
from rbjax.inference.reference import Reference
from rbjax.inference.retrieval_map import RetrievalMap, retrieval_map
from rbjax.interop.saved_model import Model
from rbjax.models.pipeline import latent_pixels
from rbjax.storage import StoredPath
from rbjax.vqa.model import VQA

SHIPPED = "shipped model"
NO_QUESTIONS = (
    "Not judged: the judge reads drawings of the data set avatars only, and the tags of this model "
    "are not those of avatars."
)
NOTHING_ASKED = (
    "Not judged: neither the prompt nor a reference asks for anything that the judge reads "
    "reliably at this size."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
    """An image with what is known of it.

    Attributes:
        pixels: uint8 [H, W, 3].
        seed: of its noise.
        answers: of the VQA model; none where the data set has no questions.
        map: of one image; None without references.
    """

    pixels: np.ndarray
    seed: int
    answers: tuple[Answer, ...]
    map: RetrievalMap | None


@dataclasses.dataclass(frozen=True, eq=False)
class Studio:
    """A model to generate with.

    Attributes:
        name: of the model, for people; no path.
        model: that is open.
        vocabulary: tags that it knows.
        vqa: that is asked about its images; None where there are no questions.
    """

    name: str
    model: Model
    vocabulary: Vocabulary
    vqa: VQA | None

    @classmethod
    def open(cls, checkpoint: StoredPath | None, vqa: VQA) -> "Studio":
        """Opens a checkpoint, None = the shipped model; see `load_model` for errors."""
        model = load_model(checkpoint)
        vocabulary = tags.vocabulary_of(model)
        name = SHIPPED if checkpoint is None else checkpoint.resolve().name
        return cls(name, model, vocabulary, vqa if vocabulary["questions"] else None)

    @property
    def size(self) -> int:
        """Pixels of an image's side in training."""
        return int(self.model.config.data.size)

    def sizes(self) -> list[int]:
        """Returns the sizes that are offered: the model's own, half as much again and double."""
        factor = latent_pixels(self.model.config.model)
        return sorted({self.size, *(round(self.size * by / factor) * factor for by in (1.5, 2))})

    def crops(self, references: Sequence[Reference], size: int | None = None) -> list[np.ndarray]:
        """Returns what the model sees of the references, uint8 [size, size, 3]."""
        view = self.model.config.data.view
        return [reference.crop(size or self.size, view) for reference in references]

    def wanted(self, settings: Settings, references: Sequence[Reference]) -> list[Wanted]:
        """Returns what images of these settings should show, as far as the judge can tell."""
        judge = self._judge(settings.size or self.size)
        return judge.wanted(settings.prompt, references) if judge else []

    def images(
        self, settings: Settings, references: Sequence[Reference], wanted: Sequence[Wanted]
    ) -> Iterator[Image]:
        """Yields the images one by one, so that any number of them is one compiled program.

        Args:
            settings: what is asked for.
            references: any number.
            wanted: of `wanted`.
        """
        judge = self._judge(settings.size or self.size)
        for seed in range(settings.seed, settings.seed + settings.num_images):
            sampled = generation.sample(
                self.model,
                settings.prompt,
                references,
                seed=seed,
                sampling=self.sampling(settings),
                size=settings.size,
            )
            pixels = sampled.images[0]
            answers = judge.answer(pixels, wanted) if judge else []
            found = retrieval_map(self.model, sampled) if references else None
            yield Image(pixels, seed, tuple(answers), found)

    def sampling(self, settings: Settings) -> Sampling:
        """Returns the sampler's settings."""
        own = generation.default_sampling(self.model)
        return dataclasses.replace(
            own,
            steps=settings.steps,
            method=settings.method or own.method,
            guidance_references=settings.guidance_references,
            guidance_prompt=settings.guidance_prompt,
        )

    def why_unasked(self, settings: Settings) -> str:
        """Returns why the judge answers nothing about images of these settings."""
        if self.vqa is None:
            return NO_QUESTIONS
        if self._judge(size := settings.size or self.size) is None:
            return f"Not judged: the judge cannot read images of {size} px, they are too small."
        return NOTHING_ASKED

    def _judge(self, size: int) -> Judge | None:
        """Returns the judge of images of a size; None if it has no questions for them."""
        if self.vqa is None:
            return None
        try:
            self.vqa.asked_at(size)
        except ValueError:  # below the smallest size that it was measured at
            return None
        return Judge(self.vqa, self.vocabulary, size)


def open_all(checkpoints: Sequence[StoredPath | None], vqa: VQA) -> list[Studio]:
    """Opens checkpoints, and gives those of equal names numbers; None is the shipped model."""
    studios: list[Studio] = []
    for checkpoint in checkpoints:
        studio = Studio.open(checkpoint, vqa)
        equal = sum(other.name.split(" (")[0] == studio.name for other in studios)
        name = f"{studio.name} ({equal + 1})" if equal else studio.name
        studios.append(dataclasses.replace(studio, name=name))
    return studios
