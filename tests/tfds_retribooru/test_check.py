"""The proof finds every leak that there can be, and nothing else."""

import dataclasses
import shutil

import pytest

from tfds_retribooru import check, describe
from tfds_retribooru.check import Entry


def entry(split, name, character, *similar, image=None) -> Entry:
    return Entry(split, name, character, similar, image or name.encode())


GOOD = [
    entry("train", "1", "ann", "2"),
    entry("train", "2", "ann", "1"),
    entry("train", "3", "ann"),
    entry("validation", "4", "ann", "5"),
    entry("validation", "5", "ann"),
    entry("test", "6", "test bob", "99"),
    entry("test", "7", "test bob", "6"),
]


def kinds(entries) -> set[str]:
    return {what for what, where in check.leaks(entries).items() if where}


def test_a_sound_data_set_has_no_leak():
    assert kinds(GOOD) == set()


@pytest.mark.parametrize(
    "added, expected",
    [
        ([entry("validation", "3", "ann", image=b"x")], {"ids in two splits"}),
        ([entry("train", "8", "ann", image=b"6")], {"pictures in two splits"}),
        ([entry("train", "8", "ann", image=b"3")], set()),
        (
            [entry("validation", "8", "ann", "3")],
            {"similar pairs across splits", "outfits across splits"},
        ),
        ([entry("train", "8", "test bob")], {"characters of test elsewhere"}),
        ([entry("test_more", "8", "test bob")], {"characters of test elsewhere"}),
        ([entry("validation", "8", "zoe")], {"characters of validation not in train"}),
    ],
)
def test_each_leak_is_found(added, expected):
    assert kinds([*GOOD, *added]) == expected


def test_the_characters_of_validation_may_all_be_unseen():
    unseen = [e for e in GOOD if e.split != "validation"] + [entry("validation", "4", "zoe")]
    assert kinds(unseen) == set()


def test_outfits_are_connected_through_any_number_of_links():
    chain = [entry("train", str(10 + i), "ann", str(11 + i)) for i in range(6)]
    assert kinds([*GOOD, *chain]) == set()
    moved = [*chain[:5], dataclasses.replace(chain[5], split="validation", similar=())]
    assert kinds([*GOOD, *moved]) == {"similar pairs across splits", "outfits across splits"}


def test_avatars_leak_nothing(avatars, capsys):
    assert check.main([str(avatars.data_path)]) == 0
    text = capsys.readouterr().out
    assert "288 records of 24 characters in 4 splits" in text
    assert text.endswith("Nothing crosses a split.\n")


def test_a_leak_is_the_exit_status(avatars, monkeypatch, capsys):
    monkeypatch.setattr(check, "entries", lambda builder: [*GOOD, entry("test", "1", "test bob")])
    assert check.main([str(avatars.data_path)]) == 1
    assert "1: test, train" in capsys.readouterr().out


def test_the_directory_of_a_version_is_asked_for(avatars, capsys):
    with pytest.raises(SystemExit):
        check.main([str(avatars.data_path.parent.parent)])
    said = capsys.readouterr().err
    assert "is not the directory of a built data set" in said and str(avatars.data_path) in said


@pytest.mark.parametrize("module", [check, describe])
def test_damaged_records_are_an_error_that_says_what_to_do(avatars, tmp_path, module, capsys):
    folder = tmp_path / "2.0.0"
    shutil.copytree(avatars.data_path, folder)
    shard = next(folder.glob("*train*array_record*"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(SystemExit):
        module.main([str(folder)])
    assert "cannot be read" in (said := capsys.readouterr().err) and "build the data set" in said
