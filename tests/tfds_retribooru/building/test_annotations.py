"""Annotation files as streams: every form, and what a break costs."""

import gzip
import json
import pathlib
import zipfile

import pytest

from tfds_retribooru import json_stream
from tfds_retribooru.building import annotations
from tfds_retribooru.building.records import Fault


def record(name, **more) -> dict:
    return {"id": name, "character": "ann", "prompts": "1girl"} | more


def write(folder, text, name="a.json"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(*paths) -> tuple[list[str], list[tuple[str, int]]]:
    """(ids, [(reason, line) of faults])."""
    items = list(annotations.read(paths))
    faults = [(i.reason, i.line) for i in items if isinstance(i, Fault)]
    return [i.id for i in items if not isinstance(i, Fault)], faults


@pytest.fixture(params=[1, 7, 1 << 20])
def chunk(request, monkeypatch):
    """Small chunks split every token."""
    monkeypatch.setattr(json_stream, "_BLOCK", request.param)


def test_lines_of_a_list_are_those_of_its_records(tmp_path, chunk):
    text = json.dumps([record(1), record(2, cloths=["a", "b"]), record(3)], indent=2)
    starts = [n for n, line in enumerate(text.splitlines(), 1) if line == "  {"]
    items = list(annotations.read([write(tmp_path, "\n" + text)]))
    assert [item.line for item in items] == [n + 1 for n in starts]


RECORDS = [record(1), record(2, cloths=["a"]), record(3)]


@pytest.mark.parametrize(
    "text",
    [
        "".join(json.dumps(r, indent=2) + "\n" for r in RECORDS),
        json.dumps(RECORDS[:1]) + json.dumps(RECORDS[1:], indent=1),
        json.dumps({"annotations": RECORDS}),
        "\n".join(map(json.dumps, RECORDS)),
    ],
)
@pytest.mark.parametrize("encode", [str.encode, lambda t: t.encode("utf-16")])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_every_form_is_read(tmp_path, chunk, text, encode, compress):
    assert read(write(tmp_path, compress(encode(text)))) == (["1", "2", "3"], [])


def test_gzip_that_breaks_off_is_a_fault(tmp_path):
    text = "\n".join(json.dumps(record(k)) for k in range(2000))
    ids, faults = read(write(tmp_path, gzip.compress(text.encode())[:-100]))
    assert ids == [str(k) for k in range(len(ids))] and 100 < len(ids) < 2000
    assert faults[-1][0] == "the compressed file breaks off or is damaged here"


def test_a_broken_line_costs_that_line(tmp_path):
    good = json.dumps(record(1)), json.dumps(record(3))
    path = write(tmp_path, f'{good[0]}\n{{"id": 2, "char\n\n{good[1]}\n')
    assert read(path) == (["1", "3"], [("the line is not JSON", 2)])


@pytest.mark.parametrize("end", ["", ',\n{"id": 4, "char', ",", "\n} ]", "\n{}]", "] x"])
def test_a_list_that_breaks_off_keeps_what_was_before(tmp_path, chunk, end):
    text = "[" + ",\n".join(json.dumps(record(i)) for i in (1, 2, 3)) + end
    ids, ((reason, line),) = read(write(tmp_path, text))
    assert ids == ["1", "2", "3"]
    assert reason == "the list breaks off here" and line in (3, 4)


@pytest.mark.parametrize("text", ["", "\n \n", "[]", " [ ] \n"])
def test_nothing_is_no_fault(tmp_path, text):
    assert read(write(tmp_path, text)) == ([], [])


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[{", '"' + "x" * 50])
def test_garbage_is_a_fault(tmp_path, text):
    ids, faults = read(write(tmp_path, text))
    assert ids == [] and len(faults) == 1


def test_a_byte_order_mark_is_skipped(tmp_path):
    assert read(write(tmp_path, "\ufeff[" + json.dumps(record(1)) + "]")) == (["1"], [])


def test_bytes_that_are_no_utf8_cost_their_tag(tmp_path):
    line = json.dumps(record(1, prompts="1girl, hat, smile")).encode().replace(b"hat", b"h\xe9t")
    (fault, kept) = annotations.read([write(tmp_path, line)])
    assert (fault.part, fault.line) == ("prompts", 1)
    assert kept.prompts == "1girl, smile"


def test_of_records_with_one_id_the_first_is_kept(tmp_path):
    first = write(tmp_path, json.dumps(record(1, prompts="first")), "a.json")
    second = write(tmp_path, json.dumps(record("1", prompts="second")), "b.json")
    kept, fault = annotations.read([first, second])
    assert kept.prompts == "first"
    assert (fault.reason, fault.file) == ("the id was there before", "b.json")


def test_an_unknown_key_is_reported_once(tmp_path):
    lines = "\n".join(json.dumps(record(i, rating="s", score=1)) for i in range(4))
    items = list(annotations.read([write(tmp_path, lines)]))
    faults = [item for item in items if isinstance(item, Fault)]
    assert sorted(fault.detail for fault in faults) == ["rating", "score"]
    assert {fault.line for fault in faults} == {1} and len(items) == 6


def test_files_are_read_in_order_of_their_names(tmp_path):
    for name in ("b.json", "a.jsonl", "C.JSON", "d.json.gz", "notes.txt", "b.json.txt", ".json"):
        write(tmp_path, "", name)
    write(tmp_path, "", "._b.json")  # macOS's
    found = [path.name for path in annotations.files(tmp_path)]
    assert found == ["C.JSON", "a.jsonl", "b.json", "d.json.gz"]
    with pytest.raises(FileNotFoundError, match="no \\*.json"):
        annotations.files(tmp_path / "nowhere")


def test_a_table_with_the_name_of_annotations_is_given_up_early(tmp_path):
    *_, last = items = list(annotations.read([write(tmp_path, "1,ann\n2,bob\n" * 10_000)]))
    assert last.reason == annotations._REASONS["not_json"] and len(items) == 10_001


def test_where_there_are_no_annotations_it_is_said_what_is_there(tmp_path):
    for name in ("records.csv", "records.parquet", ".hidden"):
        write(tmp_path, "", name)
    with pytest.raises(FileNotFoundError, match=r", but records.csv, records.parquet: .* JSON$"):
        annotations.files(tmp_path)


def test_a_file_beside_annotations_that_is_not_read_is_named(tmp_path):
    path = write(tmp_path, json.dumps(record(1)))
    write(tmp_path, json.dumps(record(2)), "part-00000")
    write(tmp_path, "", ".hidden")
    (tmp_path / "manifest").mkdir()
    ids, faults = read(path)
    assert ids == ["1"] and faults == [(annotations.NOT_READ, 0)]


def test_a_folder_is_listed_once_for_all_its_files(tmp_path, monkeypatch):
    paths = [write(tmp_path, json.dumps(record(k)), f"{k}.json") for k in range(3)]
    listed, iterdir = [], pathlib.Path.iterdir
    monkeypatch.setattr(pathlib.Path, "iterdir", lambda p: listed.append(p) or iterdir(p))
    assert read(*paths) == (["0", "1", "2"], []) and listed == [tmp_path]


def test_annotations_may_be_archived(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(3):
            archive.writestr(f"{k}.json", json.dumps(record(k)))
    assert annotations.files(tmp_path) == [path]
    assert read(path) == (["0", "1", "2"], [])


def test_folders_among_annotations_are_named_but_that_of_a_collection(tmp_path):
    for name in ("more/b.json", "manifest/dropped.jsonl", ".git/c.json", "d.json/e.json", "a.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, json.dumps(record(1)), name)
    items = list(annotations.read(annotations.files(tmp_path)))
    assert [item.id for item in items if not isinstance(item, Fault)] == ["1"]
    named = [(i.file, i.part, i.reason) for i in items if isinstance(i, Fault)]
    assert named == [(name, "place", annotations.FOLDER) for name in ("d.json", "more")]
