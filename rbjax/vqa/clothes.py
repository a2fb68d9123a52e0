"""Answers about clothes from a VQA model: any callable pictures -> answers, or rbjax's BLIP."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from tfds_retribooru.collect.outfits import QUESTIONS

Ask = Callable[[Sequence[Image.Image]], list[dict[str, str]]]  # of each picture, question -> answer

SIDE = 128  # pixels of the square that rbjax's model is shown; it resizes further by itself


def load(folder: str | pathlib.Path, questions: Sequence[str] = QUESTIONS) -> Ask:
    """Loads a BLIP-VQA folder as `rbjax.metrics.vqa_score.VQA.load` reads it.

    Raises:
        FileNotFoundError, ValueError: the folder is incomplete or does not fit.
    """
    from rbjax.vqa.model import VQA

    model = VQA.load(folder)

    def ask(pictures: Sequence[Image.Image]) -> list[dict[str, str]]:
        squares = [p.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for p in pictures]
        images = np.stack([np.asarray(square) for square in squares]) / np.float32(127.5) - 1
        replies = model.answers(images, [list(questions)] * len(squares))
        return [dict(zip(questions, reply, strict=True)) for reply in replies]

    return ask
