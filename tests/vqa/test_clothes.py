"""rbjax's VQA model as the callable that the collection asks."""

import pytest
from PIL import Image

from rbjax.vqa import clothes
from rbjax.vqa.model import PACKAGED
from tfds_retribooru.avatars.attributes import ATTRIBUTES
from tfds_retribooru.collect.outfits import QUESTIONS


def test_the_packaged_model_tells_the_clothes_of_avatars(avatars):
    records = list(avatars.as_data_source("test"))
    sizes = [(128, 128), (200, 190)]
    pictures = [Image.fromarray(r["image"]).resize(sizes[i % 2]) for i, r in enumerate(records)]
    answers = clothes.load(PACKAGED)(pictures)
    assert all(tuple(said) == QUESTIONS for said in answers)
    for question, name in zip(QUESTIONS, ("clothing", "clothing_color"), strict=True):
        values = list(ATTRIBUTES[name].values)
        right = [
            said[question] == values[r["attributes"][name]]
            for said, r in zip(answers, records, strict=True)
        ]
        assert sum(right) >= 0.9 * len(right)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        clothes.load(tmp_path)
