"""Statistics of a data set whose numbers are known."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tfds_retribooru import describe


@pytest.fixture(scope="module")
def found(avatars) -> dict:
    return describe.statistics(avatars)


def test_counts(found, avatars):
    assert (found["images"], found["characters"], found["artists"]) == (288, 24, 1)
    assert found["with_box"] == found["with_mask"] == 288
    assert sum(split["images"] for split in found["splits"].values()) == 288
    assert sum(split["outfits"] for split in found["splits"].values()) == found["outfits"] == 72
    assert found["images_of_an_outfit"] == {"mean": 4, "median": 4, "90 %": 4, "most": 4}
    assert found["similar_lengths"]["3"] == 288 == sum(found["similar_lengths"].values())


def test_top_tags_are_counted_over_all_records(found, avatars):
    tags = Counter()
    for split in avatars.info.splits:
        for record in avatars.as_data_source(split):
            tags.update(record["prompts"].decode().split(", "))
    assert found["top_tags"] == dict(tags.most_common(describe.TOP))
    assert next(iter(found["top_tags"].items())) == ("solo", 288)


def test_kinds_are_shown_with_counts_and_examples(found, avatars):
    kinds = found["kinds"]
    assert kinds.keys() == {"identity", "outfit", "free"}
    assert sum(kind["uses"] for kind in kinds.values()) == sum(
        len(record["prompts"].decode().split(", "))
        for split in avatars.info.splits
        for record in avatars.as_data_source(split)
    )
    assert "solo" in kinds["free"]["top"] and kinds["free"]["top"]["solo"] == 288
    (line,) = (t for t in describe.table(found).splitlines() if t.startswith("  outfit:"))
    assert f"{kinds['outfit']['tags']} tags, {kinds['outfit']['uses']:,} uses: " in line


@pytest.mark.parametrize(
    "length, name", [(0, "0"), (5, "5"), (6, "6-14"), (14, "6-14"), (15, "15+")]
)
def test_lengths_of_similar_are_told_apart_as_in_the_paper(length, name):
    counted = describe._lengths(Counter({length: 7}))
    assert {key: value for key, value in counted.items() if value} == {name: 7}


def test_the_command_writes_numbers_and_images(avatars, found, tmp_path, capsys):
    describe.main([str(avatars.data_path), "--out", str(tmp_path), "--split", "test"])
    assert "288 images of 24 characters in 72 outfits" in capsys.readouterr().out
    assert json.loads((tmp_path / "statistics.json").read_text()) == found
    page = np.asarray(Image.open(tmp_path / "clusters.png"))
    characters = avatars.info.splits["test"].num_examples // 12
    assert page.shape == (characters * (describe.CELL + 14), 12 * describe.CELL, 3)
    frames = {tuple(page[16, column * describe.CELL + 1]) for column in range(12)}
    assert len(frames) == 3
    assert len(np.unique(np.asarray(Image.open(tmp_path / "histograms.png")))) > 50


def test_a_directory_without_a_data_set_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        describe.main([str(tmp_path)])
    assert f"{tmp_path} is not the directory of a built data set\n" in capsys.readouterr().err


def test_an_unknown_split_is_an_error(avatars, tmp_path, capsys):
    with pytest.raises(SystemExit):
        describe.main([str(avatars.data_path), "--split", "dev"])
    assert "--split=dev: there are" in capsys.readouterr().err
