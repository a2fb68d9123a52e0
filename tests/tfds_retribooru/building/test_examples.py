"""Records on their way to examples."""

import functools
import shutil

import pytest

from tests.helpers import retribooru_folder
from tfds_retribooru import boxes
from tfds_retribooru.building import examples
from tfds_retribooru.building.examples import Source
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.building.rejections import Rejections
from tfds_retribooru.building.stored import Stored
from tfds_retribooru.folder import layout


def test_a_character_is_called_as_where_it_stands_first(tmp_path):
    """Or one that never trains would train under another spelling."""
    names = ["Sendai", "naka", "sendai", "SENDAI (kai)", "sendai_(kai)"]
    records = [Record(str(k), name, similar=("0",)) for k, name in enumerate(names)]
    source = Source(lambda: iter(records), lambda record: (None, None), 384)
    assert [r.character for r in source.records()] == [
        *("Sendai", "naka", "Sendai", "SENDAI (kai)", "SENDAI (kai)")
    ]
    faults = [item for item in source.items() if isinstance(item, Fault)]
    assert [(f.id, f.part, f.detail) for f in faults] == [
        ("2", "character", "sendai"),
        ("4", "character", "sendai_(kai)"),
    ]
    log = Rejections(tmp_path, 1.0)
    plan = examples.plan_splits(source, log)
    assert plan.similar[2] == ("0",) and plan.split[0] == plan.split[2]
    assert log.counts["character", examples.SPELLED] == 2


def test_numbers_and_full_stops_tell_names_apart():
    names = ["1. Girl", "2. Girl", "Anna.", "Anna"]
    records = [Record(str(k), name) for k, name in enumerate(names)]
    source = Source(lambda: iter(records), lambda record: (None, None), 384)
    assert [item.character for item in source.items()] == names


def test_files_tell_the_format_of_boxes_where_no_record_says_a_size(tmp_path):
    (tmp_path / "pictures").mkdir()
    path = tmp_path / "pictures" / "a.png"
    retribooru_folder.draw_image(1, (480, 720)).save(path)
    boxes_of = {"1": (300, 90, 360, 150), "2": (200, 100, 270, 170)}
    records = [Record(name, "ann", pixels=box) for name, box in boxes_of.items()]
    log = Rejections(tmp_path, 1.0)
    for found, expected in ((path, boxes.FORMATS[2]), (None, boxes.FORMATS[0])):
        source = Source(lambda: iter(records), lambda record, found=found: (found, None), 384)
        assert examples.plan_splits(source, log).box_format == expected


def put(path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    retribooru_folder.draw_image(seed).save(path)


def folder_source(root) -> Source:
    locate = functools.partial(layout.locate, root)
    return Source(lambda: layout.read(root), locate, 384, place=str(root))


@pytest.mark.parametrize("gone, new", [("b.png", ""), ("", "a1.png"), ("b.png", "a1.png")])
def test_a_folder_that_changes_while_it_is_read_is_an_error_that_says_so(tmp_path, gone, new):
    """Or a picture would get the split of another one."""
    root = tmp_path / "pictures"
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        put(root / "ann" / name, seed)
    source, log = folder_source(root), Rejections(tmp_path, 1.0)
    plan = examples.plan_splits(source, log)
    if gone:
        (root / "ann" / gone).unlink()
    if new:
        put(root / "ann" / new, 7)
    kept = Stored(plan.variant_keys)
    with pytest.raises(ValueError, match="pictures changed while it was read .*: build again"):
        list(examples.examples(source, plan, "train", kept=kept, log=log))


def test_a_folder_that_is_gone_when_its_picture_is_read_is_named(tmp_path):
    put(tmp_path / "ann" / "a.png", 1)
    source = folder_source(tmp_path)
    (record,) = source.records()
    shutil.rmtree(tmp_path / "ann")
    assert str(source.image_of(record)) == "a file cannot be read: No such file or directory"


def test_where_there_is_no_record_the_place_is_named(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ValueError, match=r"no record to build from in .*pictures\.$"):
        examples.plan_splits(folder_source(tmp_path / "pictures"), Rejections(tmp_path, 1.0))


def test_a_summary_names_the_first_fault_of_each_reason(tmp_path):
    log = Rejections(tmp_path, 1.0)
    log.add(Fault("", "no text", file="all.json", line=3, detail="None"))
    log.add(Fault("7", "no box", file="all.json", line=4, part="bbox"))
    log.add(Fault("ann/a.png", "broken", file="ann/a.png", detail="10x10"))
    log.add(Fault("", "broken", file="ann/b.png"))
    assert [" ".join(line.split()) for line in log.summary().splitlines()] == [
        "2 record: broken, such as ann/a.png: 10x10",
        "1 record: no text, such as all.json, line 3: None",
        "1 bbox of a record: no box, such as record 7 (all.json, line 4)",
    ]
