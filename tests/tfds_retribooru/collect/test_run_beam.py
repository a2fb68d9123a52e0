"""The Beam pipeline against the collection on one machine, record for record."""

import json
import os
import sys

import pytest
from PIL import Image

from tests.helpers import danbooru_dump
from tfds_retribooru.collect import image_models, outcome, run_local
from tfds_retribooru.collect.outcome import CollectionFailed
from tfds_retribooru.collect.outfits import QUESTIONS
from tfds_retribooru.collect.settings import Settings

pytest.importorskip("apache_beam", reason="apache_beam is not installed: extra [beam]")
from tfds_retribooru.collect import run_beam  # noqa: E402

RUNNERS = {
    "one worker": ["--runner=DirectRunner"],
    "several workers": [
        "--runner=DirectRunner",
        "--direct_num_workers=2",
        "--direct_running_mode=multi_processing",
    ],
}


def models(settings: Settings) -> image_models.Models:
    """Answers and boxes that depend on the image."""
    return image_models.Models(
        vqa=lambda images: [{QUESTIONS[1]: f"{i.width % 3}"} for i in images],
        detect_face=lambda image: (0.5, 0.5, 1 / image.width, 0.25),
        segment_figure=lambda image: Image.new("L", image.size, 7),
    )


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("with_images", [False, True])
def test_equal_to_the_single_machine_record_for_record(
    runner, with_images, avatars, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import this module
    metadata = tuple(danbooru_dump.write_metadata(tmp_path / "meta"))
    folder = tmp_path / "images"
    danbooru_dump.write_images(folder, avatars.as_data_source("test"))
    images = folder if with_images else None
    results, counts = [], []
    for name in ("local", "beam"):
        place = tmp_path / name
        settings = Settings(
            metadata, place / "out", images=images, masks=place / "masks", max_unreadable=1
        )
        if name == "local":
            loaded = models(settings) if with_images else image_models.Models()
            counts.append(run_local.collect(settings, loaded))
        else:
            load = models if with_images else image_models.load_models
            counts.append(run_beam.collect(settings, RUNNERS[runner], load))
        masks = {p.name: p.read_bytes() for p in (place / "masks").glob("*")}
        results.append((*danbooru_dump.read(place / "out"), masks))
    assert results[0] == results[1]
    assert counts[0] == counts[1] and counts[0]["kept"] > 0
    assert bool(results[0][2]) == with_images


def test_a_collection_that_keeps_nothing_fails_alike(tmp_path):
    path = tmp_path / "posts.json"
    path.write_text(json.dumps([danbooru_dump.post(k, rating="e") for k in (1, 2)], indent=1))
    messages = []
    for collect, options in ((run_local.collect, ()), (run_beam.collect, (RUNNERS["one worker"],))):
        settings = Settings((str(path),), tmp_path / "out")
        with pytest.raises(CollectionFailed) as failed:
            collect(settings, *options)
        messages.append(str(failed.value))
        assert not settings.out.exists()
        assert len(danbooru_dump.read_dropped(outcome.failed_list(settings.out))) == 2
    assert messages[0] == messages[1]
