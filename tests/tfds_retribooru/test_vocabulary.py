"""What a tag of real data is about."""

import pytest

from tfds_retribooru import vocabulary


@pytest.mark.parametrize(
    "tag, kind",
    [
        ("blue_hair", "identity"),
        ("cat ears", "identity"),
        ("Long_Hair", "identity"),
        ("closed eyes", "free"),
        ("half-closed_eyes", "free"),
        ("floating_hair", "free"),
        ("playing_with_own_hair", "free"),
        ("hair", "identity"),
        ("hairband", "free"),
        ("single_thighhigh", "outfit"),
        ("skirt", "outfit"),
        ("sendai_(kantai_collection)", "identity"),
        ("smile", "free"),
    ],
)
def test_kinds(tag, kind):
    words = vocabulary.build(
        [f"1girl, {tag}"], ["single thighhigh", "skirt"], ["sendai_(kantai_collection)"]
    )
    assert words["tags"][tag]["kind"] == kind


def test_what_an_annotation_calls_clothes_is_an_outfit():
    words = vocabulary.build(["animal_ears, fake animal ears"], ["fake_animal_ears"], [])
    assert words["tags"]["fake animal ears"]["kind"] == "outfit"
    assert words["tags"]["animal_ears"]["kind"] == "identity"


def test_tags_are_spelled_as_the_prompts_spell_them():
    words = vocabulary.build(["b_c, a", " a ,", ""], [], [])
    assert list(words["tags"]) == ["a", "b_c"] and words["questions"] == {}
