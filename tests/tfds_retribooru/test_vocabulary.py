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


def test_what_is_written_is_read_and_made_once(tmp_path):
    made = {"tags": {"a": {"attribute": "a", "answer": "a", "kind": "free"}}, "questions": {}}
    vocabulary.write(tmp_path, lambda: made)
    vocabulary.write(tmp_path, lambda: pytest.fail("there is one already"))
    assert vocabulary.read(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]


def test_a_missing_vocabulary_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="vocabulary.json is missing: build the data"):
        vocabulary.read(tmp_path)
