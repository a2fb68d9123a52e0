"""BLIP-VQA as the model that `tfds_retribooru.collect --vqa` asks about clothes.

pyproject.toml declares `load` as an entry point of the group that collect looks up.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rbjax.models.pixels import to_float
from rbjax.vqa.model import VQA
from tfds_retribooru.collect.image_models import VqaModel
from tfds_retribooru.collect.outfits import QUESTIONS

SIDE = 128  # pixels of the square that the model is given; it resizes further by itself


def load(folder: str | pathlib.Path, questions: Sequence[str] = QUESTIONS) -> VqaModel:
    """Loads a BLIP-VQA folder as `VQA.load` reads it.

    Returns:
        A function from images to one dict for each, question -> answer.

    Raises:
        FileNotFoundError, ValueError: the folder is incomplete or does not fit.
    """
    model = VQA.load(folder)

    def answer(images: Sequence[Image.Image]) -> list[dict[str, str]]:
        squares = [i.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for i in images]
        pixels = np.stack([np.asarray(square) for square in squares])
        answers = model.answers(to_float(pixels), [list(questions)] * len(squares))
        return [dict(zip(questions, row, strict=True)) for row in answers]

    return answer
