"""What a start says of a data set that is built."""

import shlex

import pytest
import tensorflow_datasets as tfds

from tests.helpers import retribooru_folder


def test_a_data_set_of_another_folder_is_told_with_what_to_do(tmp_path, capsys):
    for who in ("ann", "bob"):
        folder = tmp_path / f"of {who}" / who
        folder.mkdir(parents=True)
        for n in range(2):
            retribooru_folder.draw_image(10 * len(who) + n).save(folder / f"{n}.png")
    (tmp_path / "link").symlink_to(tmp_path / "of ann")

    def start(name: str) -> str:
        builder = tfds.builder("folder", path=tmp_path / name, data_dir=tmp_path / "data")
        builder.download_and_prepare()
        return capsys.readouterr().out

    start("of ann")
    assert start("of ann") == start("link") == ""
    told = start("of bob")
    assert f"was built from {tmp_path / 'of ann'}, and is used" in told and "`data_dir`" in told
    exec(shlex.split(told.splitlines()[-1])[2])
    capsys.readouterr()
    assert start("of bob") == ""
    builder = tfds.builder("folder", data_dir=tmp_path / "data")
    (record,) = {r["character"] for r in builder.as_data_source("train")}
    assert record == b"bob"


@pytest.mark.parametrize("before", ["data 1", "data"])
def test_a_directory_s_name_is_no_pattern(tmp_path, before, capsys):
    """A data directory `data [1]`, where TFDS would look into `data 1`."""
    folder = tmp_path / "pictures" / "ann"
    folder.mkdir(parents=True)
    for n in range(2):
        retribooru_folder.draw_image(n).save(folder / f"{n}.png")

    def builder(name: str) -> tfds.core.DatasetBuilder:
        return tfds.builder("folder", path=tmp_path / "pictures", data_dir=tmp_path / name)

    builder(before).download_and_prepare()
    late = builder("data [1]")  # as one that waits for the first to build
    assert not late.is_prepared()
    builder("data [1]").download_and_prepare()
    late.download_and_prepare()
    assert late.is_prepared() and late.info.splits["train"].num_examples == 2
    assert builder("data [1]").is_prepared() and builder("data [1]").info.splits
