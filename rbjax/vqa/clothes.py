"""BLIP-VQA as the model that `tfds_retribooru.collect --vqa` asks about clothes.

pyproject.toml declares `load` as an entry point of the group that collect looks up.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rbjax.vqa.model import VQA
from tfds_retribooru.collect.image_models import VqaModel
from tfds_retribooru.collect.outfits import QUESTIONS


def load(folder: str | pathlib.Path, questions: Sequence[str] = QUESTIONS) -> VqaModel:
    """Loads a BLIP-VQA folder, any that `VQA.load` reads.

    Returns:
        A function from images to one dict for each, question -> answer.

    Raises:
        FileNotFoundError, ValueError: the folder is incomplete or does not fit.
    """
    model = VQA.load(folder)

    def answer(images: Sequence[Image.Image]) -> list[dict[str, str]]:
        pixels = [np.asarray(image.convert("RGB")) for image in images]
        answers = model.answers(pixels, [list(questions)] * len(pixels))
        return [dict(zip(questions, row, strict=True)) for row in answers]

    return answer
