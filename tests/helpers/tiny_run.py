"""A run of a few steps from scratch, on the smallest pipeline; stand-ins for evaluation and VQA."""

import numpy as np
from ml_collections import ConfigDict

from configs import composition
from tests.helpers import tiny_pipeline


def config(data_dir, retribooru=False) -> ConfigDict:
    """Six steps on avatars/tiny, or the smoke variant of RetriBooru, smaller still; one device."""
    c = composition.retribooru_smoke() if retribooru else short_run()
    c.unlock()
    c.data_dir = str(data_dir)
    c.mesh.data = 1  # compiling for eight takes half as long again
    c.data.size = 12
    c.model.update(tiny_pipeline.model_config())
    c.model.patch, c.model.luma, c.model.chroma = 3, 7, 5
    c.eval.characters = 2
    c.sampling.steps = 1
    c.lock()
    return c


def short_run() -> ConfigDict:
    """Six steps on avatars/tiny without weights to start from, 48 px."""
    c = composition.shortened(composition.from_scratch())
    c.data.dataset = "avatars/tiny"
    return c


class VQA:
    """Answers at random, the same each time."""

    accuracy: dict = {}

    def asked_at(self, size):
        return {"hair", "hair_color", "skin", "clothing", "eyes", "mouth", "background"}

    def phrases_at(self, size):
        return self.asked_at(size)

    def knows(self, phrase):
        return True

    def can_read(self, question):
        return True

    def answers(self, images, questions):
        return [["red"] * len(texts) for texts in questions]

    def ask(self, images, questions, phrases):
        return self.answers(images, questions), self.probability_yes(images, phrases)

    def probability_yes(self, images, phrases):
        return [np.full(len(texts), 0.5) for texts in phrases]

    def embed_images(self, images):
        return np.stack([np.asarray(image)[::4, ::4].ravel() for image in images])


class NoEvaluation:
    """Stands for loop.Evaluator."""

    def __init__(self, workdir):
        self.workdir = workdir

    @classmethod
    def create(cls, exp, workdir):
        return cls(workdir)

    def sample(self, *arguments):
        pass

    periodic = final = sample
