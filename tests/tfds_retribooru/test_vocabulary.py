"""What a tag of real data is about."""

import json
import shutil

import pytest
import tensorflow_datasets as tfds

from tests.helpers import retribooru_folder
from tfds_retribooru import vocabulary


def kinds(made) -> dict[str, str]:
    return {tag: entry["kind"] for tag, entry in made["tags"].items()}


def test_tags_are_spelled_as_the_prompts_spell_them_and_compared_in_one_form():
    made = vocabulary.build(["B_c, (blue Hair:1.2), ANN", " B_c ,", ""], ["b C"], ["Ann_(x)"])
    assert kinds(made) == {"(blue Hair:1.2)": "identity", "ANN": "identity", "B_c": "outfit"}
    assert made["tags"]["B_c"]["answer"] == "b c" and made["questions"] == {}


def test_new_kinds_reach_a_data_set_that_is_built(tmp_path, capsys):
    root = tmp_path / "downloads" / "manual" / "retribooru"
    retribooru_folder.write(root, retribooru_folder.records(4), masks=False)
    builder = tfds.builder("retribooru/384", data_dir=tmp_path)
    builder.download_and_prepare()
    made = vocabulary.read(builder.data_path)
    assert kinds(made)["smile"] == "free" and kinds(made)["blue_hair"] == "identity"
    (tmp_path / "retribooru" / "kinds.txt").write_text(
        "# mine\n[identity]\nSmile\n[free]\n* hair  # of the wig\n", encoding="utf-8-sig"
    )
    capsys.readouterr()
    tfds.builder("retribooru/384", data_dir=tmp_path).download_and_prepare()
    changed = kinds(vocabulary.read(builder.data_path))
    assert changed == kinds(made) | {"smile": "identity", "blue_hair": "free"}
    assert "the kinds of 2 tags are new" in capsys.readouterr().out
    tfds.builder("retribooru/384", data_dir=tmp_path).download_and_prepare()
    assert capsys.readouterr().out == ""
    shutil.rmtree(builder.data_path)  # a rebuild keeps the file
    tfds.builder("retribooru/384", data_dir=tmp_path).download_and_prepare()
    assert kinds(vocabulary.read(builder.data_path)) == changed


def test_a_bare_name_is_an_identity_where_it_means_the_character(tmp_path):
    made = retribooru_folder.records(12)
    for number, record in enumerate(made):
        name = "rain" if number < 12 else "Sendai" if number < 24 else f"c{number // 6}"
        record["character"] = f"{name}_(x)"
        record["prompts"] = "sendai, rain" if name == "Sendai" else "rain"
    root = tmp_path / "downloads" / "manual" / "retribooru"
    retribooru_folder.write(root, made, masks=False)
    builder = tfds.builder("retribooru/384", data_dir=tmp_path)
    builder.download_and_prepare()
    assert kinds(vocabulary.read(builder.data_path)) == {"rain": "free", "sendai": "identity"}


def test_a_name_behind_kohya_s_repeats_is_an_identity(tmp_path):
    for number in range(4):
        path = tmp_path / "in" / ("10_zork", "5_01")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        retribooru_folder.draw_image(number).save(path)
        path.with_suffix(".txt").write_text("zork, 01")
    builder = tfds.builder("folder", path=str(tmp_path / "in"), data_dir=tmp_path / "out")
    builder.download_and_prepare()
    assert kinds(vocabulary.read(builder.data_path)) == {"zork": "identity", "01": "free"}


def test_the_word_for_who_it_is_in_kohya_s_names_is_an_identity(tmp_path):
    folders = "10_sls woman", "5_rain style", "3_night", "snow man"
    for number in range(8):
        path = tmp_path / "in" / folders[number % 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        retribooru_folder.draw_image(number).save(path)
        word = path.parent.name.split("_")[-1].split()[0]
        path.with_suffix(".txt").write_text(f"{word}, style, night")
    builder = tfds.builder("folder", path=str(tmp_path / "in"), data_dir=tmp_path / "out")
    builder.download_and_prepare()
    expected = {"sls": "identity", "rain": "identity", "style": "free"}
    expected |= {"night": "free", "snow": "free"}  # of all pictures; of a folder without repeats
    assert kinds(vocabulary.read(builder.data_path)) == expected


def test_the_vocabulary_of_an_older_build_gets_the_kinds_of_now(tmp_path):
    root = tmp_path / "downloads" / "manual" / "retribooru"
    retribooru_folder.write(root, retribooru_folder.records(4), masks=False)
    builder = tfds.builder("retribooru/384", data_dir=tmp_path)
    builder.download_and_prepare()
    path = builder.data_path / vocabulary.NAME
    made = json.loads(path.read_text())
    old = {"tags": {t: e | {"kind": "free"} for t, e in made["tags"].items()}, "questions": {}}
    path.write_text(json.dumps(old))
    tfds.builder("retribooru/384", data_dir=tmp_path).download_and_prepare()
    assert vocabulary.read(builder.data_path) == made


def test_a_file_of_kinds_without_a_kind_stops_before_the_build(tmp_path):
    root = tmp_path / "downloads" / "manual" / "retribooru"
    retribooru_folder.write(root, retribooru_folder.records(4), masks=False)
    (tmp_path / "retribooru").mkdir()
    (tmp_path / "retribooru" / "kinds.txt").write_text("afro\n")
    with pytest.raises(ValueError, match=r"kinds.txt: 'afro' stands under no kind; begin"):
        tfds.builder("retribooru/384", data_dir=tmp_path).download_and_prepare()


def test_what_is_written_is_read_and_made_once(tmp_path):
    made = {"tags": {"a": {"attribute": "a", "answer": "a", "kind": "free"}}, "questions": {}}
    vocabulary.write(tmp_path, lambda: made)
    vocabulary.write(tmp_path, lambda: pytest.fail("there is one already"))
    assert vocabulary.read(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]


def test_a_missing_vocabulary_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="vocabulary.json is missing: build the data"):
        vocabulary.read(tmp_path)
