"""A build on Apache Beam equals the build without it."""

import json

import pytest
import tensorflow_datasets as tfds

from tests.helpers import retribooru_folder

pytest.importorskip("apache_beam", reason="apache_beam is not installed: pip install -e '.[beam]'")

from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402


def build(data_dir, manual_dir, **options):
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
    builder = tfds.builder("retribooru/384", data_dir=data_dir, max_rejected=0.5)
    builder.download_and_prepare(download_config=config)
    return builder


def test_several_workers_build_the_same_records_and_the_same_manifest(tmp_path, monkeypatch):
    made = retribooru_folder.records(12)
    made[3]["bbox"], made[4]["bbox"] = [0.9, 0.9, 0.9, 0.9], [24, 16, 19, 19]
    root = retribooru_folder.write(tmp_path / "manual" / "retribooru", made)
    (root / "images" / f"{made[8]['id']}.png").write_bytes(b"")
    twin = (root / "images" / f"{made[0]['id']}.png").read_bytes()
    (root / "images" / f"{made[30]['id']}.png").write_bytes(twin)
    from tfds_retribooru.building import beam as beam_lib

    monkeypatch.setattr(beam_lib, "LINES", 10)
    options = PipelineOptions(
        ["--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    )
    alone = build(tmp_path / "alone", tmp_path / "manual")
    beam = build(tmp_path / "beam", tmp_path / "manual", beam_options=options)
    assert alone.info.splits.keys() == beam.info.splits.keys()
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    for split in alone.info.splits:
        one, other = (list(b.as_data_source(split, deserialize_method=raw)) for b in (alone, beam))
        assert sorted(one) == sorted(other) and len(one) > 0
    one, other = ((b.data_path / "rejected.jsonl").read_text() for b in (alone, beam))
    assert one == other and len([json.loads(line) for line in one.splitlines()]) == 3
    assert {p.name for p in alone.data_path.iterdir()} == {p.name for p in beam.data_path.iterdir()}
