"""The packaged BLIP-VQA as the model that the collection asks."""

import pathlib
import tomllib

import pytest
from PIL import Image

from rbjax.vqa import clothes
from rbjax.vqa.model import PACKAGED
from tfds_retribooru.avatars.attributes import ATTRIBUTES
from tfds_retribooru.collect import image_models
from tfds_retribooru.collect.outfits import QUESTIONS


def test_the_packaged_model_names_the_clothes_of_avatars(avatars):
    records = list(avatars.as_data_source("test"))
    sizes = [(128, 128), (200, 190)]
    images = [Image.fromarray(r["image"]).resize(sizes[i % 2]) for i, r in enumerate(records)]
    answers = clothes.load(PACKAGED)(images)
    assert all(tuple(answer) == QUESTIONS for answer in answers)
    for question, name in zip(QUESTIONS, ("clothing", "clothing_color"), strict=True):
        values = list(ATTRIBUTES[name].values)
        right = [
            answer[question] == values[r["attributes"][name]]
            for answer, r in zip(answers, records, strict=True)
        ]
        assert sum(right) >= 0.9 * len(right)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        clothes.load(tmp_path)


def test_collect_finds_the_loader_by_its_entry_point():
    file = pathlib.Path(__file__).parents[2] / "pyproject.toml"
    entry_points = tomllib.loads(file.read_text())["project"]["entry-points"]
    (name,) = entry_points[image_models.VQA_GROUP].values()
    assert image_models.find_vqa_loader(name) is clothes.load
