"""One annotation: what is kept, what is lost, and that nothing breaks the parser."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfds_retribooru.building import records
from tfds_retribooru.building.records import Fault, Record, parse

FIGURE = {  # the record of the paper's annotation figure
    "id": "2895557",
    "character": "sendai_(kantai_collection)",
    "artists": "rinto_(rint_rnt)",
    "bbox": [0.420616, 0.30251, 0.222749, 0.153138],
    "cloths": ["single thighhigh", "skirt"],
    "similar": ["3029262", "2934290"],
    "prompts": "1girl, asymmetrical_legwear",
}


def test_the_papers_record_is_kept_as_it_is():
    record, faults = parse(FIGURE, "a.json", 3)
    assert faults == []
    assert record == Record(
        id="2895557",
        character="sendai_(kantai_collection)",
        artists="rinto_(rint_rnt)",
        bbox=(0.420616, 0.30251, 0.222749, 0.153138),
        cloths=("single thighhigh", "skirt"),
        similar=("3029262", "2934290"),
        prompts="1girl, asymmetrical_legwear",
        file="a.json",
        line=3,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"id": 2895557},
        {"similar": [3029262, 2934290]},
        {"prompts": ["1girl", "asymmetrical_legwear"]},
        {"prompts": " 1girl ,,asymmetrical_legwear,"},
        {"artists": ["rinto_(rint_rnt)"]},
        {"similar": "3029262, 2934290"},
        {"id": 2895557.0, "similar": [3029262.0, 2934290.0]},  # of tables
        {"parent_id": float("nan"), "width": float("nan"), "height": float("nan")},
        {"parent_id": "", "children": []},
        *(
            {"similar": text}
            for text in ("[3029262, 2934290]", "3029262;2934290", "{3029262,2934290}")
        ),
        *({"similar": text} for text in ("['3029262', '2934290']", '["3029262"|"2934290"]')),
    ],
)
def test_other_spellings_mean_the_same(changes):
    assert parse(FIGURE | changes, "", 0) == parse(FIGURE, "", 0)


@pytest.mark.parametrize(
    "written",
    [
        *("0.5,0.3,0.2,0.25", "[0.5, 0.3, 0.2, 2.5e-1]", ".5 .3 .2 .25", "(0.5; 0.3; 0.2; 0.25)"),
        *(["0.5", "0.3", "0.2", "0.25"], [0.5, 0.3, "0.2", 0.25]),
    ],
)
def test_a_box_may_be_a_text(written):
    record, faults = parse(FIGURE | {"bbox": written}, "", 0)
    assert record.bbox == pytest.approx((0.5, 0.3, 0.2, 0.25)) and faults == []


@pytest.mark.parametrize("key", sorted(records.KNOWN - {"id", "character"}))
def test_nan_is_missing_as_tables_write_it(key):
    changes = {key: float("nan")} | ({"height": float("nan")} if key == "width" else {})
    changes |= {"width": float("nan")} if key == "height" else {}
    without = {name: value for name, value in FIGURE.items() if name not in changes}
    assert parse(FIGURE | changes, "", 0) == parse(without, "", 0)
    assert parse(FIGURE | changes, "", 0)[1] == []


@pytest.mark.parametrize(
    "name", ["bob (1)", "花子_01", "a@b", "IMG [edited]", "Zoë", "x" * 240, "a+b", "a..b", "-1"]
)
def test_an_id_may_be_any_file_s_name(name):
    (record, faults) = parse(
        FIGURE | {"id": name, "similar": [name + "2"[: 240 - len(name)]]}, "", 0
    )
    assert record.id == name and len(faults) == (len(name) == 240)


@pytest.mark.parametrize(
    "changes",
    [
        {"parent_id": 5.0, "children": "7, 8"},
        {"parent_id": "[5]", "children": "[7, 8]"},
        {"parent_id": "5", "children": "7;8"},
        {"parent_id": {"id": 5}, "children": [{"id": "7"}, {"id": 8}]},
        {"parent_id": "5", "children": [7], "children_ids": "7 8"},
    ],
)
def test_parent_and_children_are_read_in_every_form(changes):
    record, faults = parse(FIGURE | changes, "", 0)
    assert record.relatives == ("5", "7", "8") and faults == []


@pytest.mark.parametrize(
    "written, expected",
    [
        ("my pic 1, my pic 2", ("my pic 1", "my pic 2")),
        ("my pic 1", ("my pic 1",)),
        ("o'neill", ("o'neill",)),
        ([float("nan"), "7"], ("7",)),
    ],
)
def test_ids_with_spaces_stay_whole(written, expected):
    record, faults = parse(FIGURE | {"children": written}, "", 0)
    assert record.relatives == expected and faults == []


def test_accents_that_are_taken_apart_make_no_other_name():
    (record, faults) = records.parse({"id": 1, "character": "cafe\u0301 "}, "a", 1)
    assert record.character == "caf\u00e9" and not faults


@pytest.mark.parametrize("prompts", ["don&#039;t, &gt;_&lt;", ["don&#039;t", "&gt;_&lt;"]])
def test_what_html_escapes_is_plain(prompts):
    (record, _) = records.parse({"id": 1, "character": "a", "prompts": prompts}, "a", 1)
    assert record.prompts == "don't, >_<"


def test_the_early_spelling_of_prompts_is_read():
    early = {"prompt" if key == "prompts" else key: value for key, value in FIGURE.items()}
    assert parse(early, "", 0) == parse(FIGURE, "", 0)


def test_size_and_extension_are_read_in_both_dialects():
    old, _ = parse({**FIGURE, "width": "1200", "height": "900", "file_ext": "JPG"}, "", 0)
    new, _ = parse({**FIGURE, "width": 1200, "height": 900, "file_ext": "jpg"}, "", 0)
    table, _ = parse({**FIGURE, "width": 1200.0, "height": 900.0, "file_ext": "jpg"}, "", 0)
    assert old == new == table and (new.size, new.extension) == ((1200, 900), "jpg")


@pytest.mark.parametrize(
    "item, reason",
    [
        (7, "the record is not an object"),
        (["1", "ann"], "the record is not an object"),
        ({**FIGURE, "id": None}, "the id is no number and no plain file name"),
        ({**FIGURE, "id": 1.5}, "the id is no number and no plain file name"),
        ({**FIGURE, "id": True}, "the id is no number and no plain file name"),
        ({**FIGURE, "id": -3}, "the id is no number and no plain file name"),
        ({**FIGURE, "id": "../../secret"}, "the id is no number and no plain file name"),
        ({**FIGURE, "id": "a/b"}, "the id is no number and no plain file name"),
        ({**FIGURE, "id": "a\\b"}, "the id is no number and no plain file name"),
        ({**FIGURE, "id": ".."}, "the id is no number and no plain file name"),
        *(
            ({**FIGURE, "id": bad}, "the id is no number and no plain file name")
            for bad in ("", ".hidden", " a", "a ", "a\n", "x" * 241, "花" * 81, "a\udce9", "\ufffd")
        ),
        ({**FIGURE, "id": "1\0"}, "the id is no number and no plain file name"),
        ({**FIGURE, "character": None}, "the character is not a text"),
        ({**FIGURE, "character": "  "}, "the character is not a text"),
        ({**FIGURE, "character": "zo\udcff"}, "the character is not a text"),
    ],
)
def test_whole_records_that_are_lost(item, reason):
    record, (fault,) = parse(item, "a.json", 5)
    assert record is None
    assert (fault.reason, fault.part, fault.file, fault.line) == (reason, "", "a.json", 5)


@pytest.mark.parametrize(
    "changes, part, kept",
    [
        ({"bbox": [0.5, 0.5, 0.2]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 0.2, "x"]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 0.2, "nan"]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 0.2, 0.1, 0.99]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 0.2, None, 0.1]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 0.2, float("nan")]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 0.2, float("inf")]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 0.2, 10**400]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 0.2, 0.0]}, "bbox", None),
        ({"bbox": [0.1, 0.5, 0.3, 0.2]}, "bbox", None),
        ({"bbox": [0.5, 0.5, 3, 0.4]}, "bbox", None),
        ({"cloths": {"0": "skirt"}}, "cloths", ()),
        ({"cloths": ["skirt", 3]}, "cloths", ("skirt",)),
        ({"cloths": ["skirt", "\udce9"]}, "cloths", ("skirt",)),
        ({"prompts": "1girl, b\udce9ret"}, "prompts", "1girl"),
        ({"prompts": "1girl, b\ufffdret"}, "prompts", "1girl"),
        ({"prompts": 3}, "prompts", ""),
        ({"similar": ["2895557", "7"]}, "similar", ("7",)),
        ({"similar": ["../x", "7"]}, "similar", ("7",)),
        ({"similar": 7}, "similar", ()),
        ({"artists": {}}, "artists", ""),
        ({"width": 100}, "size", None),
        ({"width": 100, "height": -1}, "size", None),
        ({"file_ext": "../x"}, "file_ext", ""),
    ],
)
def test_a_fault_of_a_part_costs_that_part_alone(changes, part, kept):
    record, (fault,) = parse(FIGURE | changes, "", 0)
    assert fault.part == part and fault.id == "2895557"
    field = {"file_ext": "extension"}.get(part, part)
    assert getattr(record, field) == kept
    others = {name for name in Record.__dataclass_fields__ if name != field}
    intact, _ = parse(FIGURE, "", 0)
    assert all(getattr(record, name) == getattr(intact, name) for name in others)


@pytest.mark.parametrize(
    "cloths", ["skirt, red_hat", "skirt\nred_hat", "skirt red_hat", ["skirt, red_hat"]]
)
def test_clothing_tags_in_one_text_are_read(cloths):
    record, faults = parse(FIGURE | {"cloths": cloths, "prompts": cloths}, "", 0)
    assert record.cloths == ("skirt", "red_hat") and record.prompts == "skirt, red_hat"
    assert faults == []


def test_a_box_in_pixels_waits_for_the_picture():
    record, faults = parse(FIGURE | {"bbox": [420, 302, 222, 153]}, "", 0)
    assert record.pixels == (420, 302, 222, 153) and record.bbox is None and faults == []


@pytest.mark.parametrize("bbox", [None, [], "missing"])
def test_a_record_without_a_detector_is_no_fault(bbox):
    item = {key: value for key, value in FIGURE.items() if key != "bbox"}
    record, faults = parse(item if bbox else {**item, "bbox": None}, "", 0)
    assert record.bbox is None and faults == []


def test_a_box_at_the_edge_is_cut():
    record, faults = parse(FIGURE | {"bbox": [0.1, 0.5, 0.21, 0.2]}, "", 0)
    assert faults == []
    assert record.bbox == pytest.approx((0.1025, 0.5, 0.205, 0.2))


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
any_item = any_json | st.fixed_dictionaries(
    {}, optional={key: any_json for key in sorted(records.KNOWN)}
).map(lambda item: FIGURE | item)


@given(any_item)
@settings(max_examples=300, deadline=None)
def test_anything_becomes_a_sound_record_or_a_fault(item):
    record, faults = parse(item, "a.json", 1)
    assert all(isinstance(fault, Fault) and fault.reason for fault in faults)
    assert (record is None) == any(not fault.part for fault in faults)
    json.dumps([fault.detail for fault in faults])
    if record is None:
        return
    assert "/" not in record.id and "\\" not in record.id and record.id not in ("", ".", "..")
    texts = (record.character, record.artists, record.prompts, *record.cloths)
    assert all(text.encode().decode() == text for text in texts) and record.character.strip()
    assert record.id not in record.similar
    if record.bbox is not None:
        x, y, w, h = record.bbox
        assert w > 0 and h > 0
        assert -1e-9 <= min(x - w / 2, y - h / 2) and max(x + w / 2, y + h / 2) <= 1 + 1e-9
