"""Drawn avatars: an image that is drawn as asked is found to be so, and what is wrong is named."""

import dataclasses

import numpy as np
import pytest

from rbjax.evaluation import truth
from rbjax.evaluation.suite import Case
from rbjax.text.concepts import CLOTHES, FACE
from tfds_retribooru.avatars import attributes, characters, drawing
from tfds_retribooru.avatars.characters import Population
from tfds_retribooru.avatars.portraits import Frame, id_of, portraits

SIZE = 64
PEOPLE = characters.characters(Population(count=40))
PROMPT = {"eyes": "wink", "mouth": "frown", "background": "cyan"}
NAMES = ("eyes", "mouth", "background", "hair_color", "clothing", "clothing_color", "skin")


def avatars(varied=False):
    number = next(p.number for p in PEOPLE if p.values["accessory"] == "none")
    ids = [id_of(number, outfit, image) for outfit in range(3) for image in range(4)]
    return truth.Avatars(0, PEOPLE, varied, attributes.vocabulary(), ids.__getitem__)


@pytest.fixture
def case():
    prompt = ("solo", "wink", "frown", "cyan background")
    return Case(0, references=(1, 9), concepts=(FACE, CLOTHES), prompt=prompt, seed=0, real=None)


def draw(portrait):
    return np.asarray(drawing.rasterise(portrait, SIZE)[0])


def test_a_record_is_found_by_its_id():
    world = avatars(varied=True)
    number = int(world.read_id(0)) - 100000
    expected = portraits(0, PEOPLE[number // 12], varied=True)
    assert [world.portrait(position) for position in range(12)] == expected


def test_a_case_asks_for_face_clothes_and_prompt(case):
    world = avatars()
    asked, face, clothes = world.asked(case), world.portrait(1), world.portrait(9)
    for name in attributes.names("identity"):
        assert asked.values[name] == face.values[name]
    for name in attributes.names("outfit"):
        assert asked.values[name] == clothes.values[name]
    assert {name: asked.values[name] for name in PROMPT} == PROMPT
    assert asked.colors["hair"] == face.colors["hair"]
    assert asked.colors["clothing"] == clothes.colors["clothing"] != face.colors["clothing"]
    assert asked.colors["background"] == attributes.PALETTE["cyan"]


def test_an_image_as_asked_is_found_to_be_so(case):
    image = draw(avatars().asked(case))
    given = avatars().asked(case).values
    found = truth.compare([(case, image, {name: given[name] for name in NAMES})], avatars())
    assert max(found["color_distance"].values()) < 0.01
    assert set(found["color_distance"]) == {"hair", "skin", "clothing", "background"}
    for name in NAMES:
        assert found["attributes"][name] == {"clear": 1, "wanted": 1, "vqa": 1}


@pytest.mark.parametrize(
    "name, value", [("eyes", "closed eyes"), ("mouth", "smile"), ("clothing_color", "purple")]
)
def test_what_is_wrong_is_named_and_the_vqa_models_mistake_told(case, name, value):
    world = avatars()
    wrong = truth.with_value(world.asked(case), name, value)
    given = {n: wrong.values[n] for n in NAMES}
    found = truth.compare([(case, draw(wrong), given)], world)["attributes"]
    assert found[name] == {"clear": 1, "wanted": 0, "vqa": 1}
    assert all(found[other]["wanted"] == 1 for other in NAMES if other != name)
    mistaken = given | {name: world.asked(case).values[name]}
    found = truth.compare([(case, draw(wrong), mistaken)], world)["attributes"]
    assert found[name] == {"clear": 1, "wanted": 0, "vqa": 0}


def test_the_colour_distance_is_that_of_the_region(case):
    world = avatars()
    asked = world.asked(case)
    red, green, blue = asked.colors["clothing"]
    shifted = (red - 30 if red > 127 else red + 30, green, blue)
    image = draw(dataclasses.replace(asked, colors=asked.colors | {"clothing": shifted}))
    distances = truth.color_distances(image, asked)
    assert 0.5 * 30 / 441.7 < distances["clothing"] < 1.1 * 30 / 441.7
    assert distances["background"] < 0.005


def test_the_distance_is_that_of_the_features_to_the_own_drawing(case):
    world = avatars()
    other = dataclasses.replace(case, prompt=("solo", "smile", "red background"))
    images = [draw(world.asked(c)) for c in (case, other)]
    embed = {"mean": lambda images: images.mean(axis=(1, 2))}
    right = truth.compare(zip((case, other), images, ({}, {}), strict=True), world, embed)
    wrong = truth.compare(zip((other, case), images, ({}, {}), strict=True), world, embed)
    found, swapped = right["distance"]["mean"], wrong["distance"]["mean"]
    assert found["own"] == pytest.approx(0, abs=1e-6) and found["others"] > 0.01
    assert swapped["own"] == pytest.approx(found["others"]) and swapped["others"] < 1e-6
    alone = truth.compare([(case, images[0], {})], world, embed)
    assert alone["distance"]["mean"]["others"] is None


def test_nothing_is_clear_about_noise(case):
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    found = truth.drawn_values(image, avatars().asked(case), ("eyes", "mouth"))
    assert not any(is_clear for _, is_clear in found.values())


@pytest.mark.parametrize("seed", range(3))
def test_a_moving_figure_is_fitted(case, seed):
    world = avatars(varied=True)
    frame = world.portrait(seed).frame
    image = draw(dataclasses.replace(world.asked(case), frame=frame))
    fitted = truth.fit(image, world.asked(case))
    assert fitted.flip == frame.flip
    for name in ("left", "top", "side"):
        assert abs(getattr(fitted, name) - getattr(frame, name)) < 6  # 1.5 pixels
    given = {name: world.asked(case).values[name] for name in NAMES}
    found = truth.compare([(case, image, given)], world)["attributes"]
    assert np.mean([cell["wanted"] or 0 for cell in found.values()]) > 0.8


def test_a_frame_is_the_plain_one_where_figures_do_not_move(case):
    world = avatars()
    assert world.draw(case, draw(world.asked(case))).frame == Frame()
