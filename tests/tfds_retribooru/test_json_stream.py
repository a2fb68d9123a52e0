"""JSON documents from whole, cut and damaged files, against the standard library."""

import gzip
import io
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfds_retribooru import json_stream, json_text, text_files
from tfds_retribooru.json_stream import Document

DOCUMENTS = [{"id": k, "text": "é\n" * (k % 5), "list": [k, [], {}]} for k in range(57)]
LINES = "\n".join(map(json.dumps, DOCUMENTS)).encode() + b"\n"


def read(data: bytes) -> list[Document]:
    return list(json_stream.read(io.BytesIO(data)))


def values(found) -> list:
    assert not any(document.fault for document in found)
    return [document.value for document in found]


@pytest.mark.parametrize("size", [1, 17, 100, 101, 4096, 1 << 20])
def test_parts_hold_each_line_once_with_its_number(tmp_path, size):
    path = tmp_path / "posts.json"
    path.write_bytes(LINES)
    found = [d for part in json_stream.parts(path, size) for d in json_stream.read_part(part)]
    assert values(found) == DOCUMENTS
    assert [d.line for d in found] == list(range(1, len(DOCUMENTS) + 1))


def test_a_compressed_file_is_read_through(tmp_path):
    path = tmp_path / "posts.json.gz"
    path.write_bytes(gzip.compress(LINES))
    (part,) = json_stream.parts(path, 10)
    assert values(list(json_stream.read_part(part))) == DOCUMENTS


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("block", [3, 50, 1 << 20])
def test_a_list_is_read_in_blocks(indent, block, monkeypatch):
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    text = json.dumps(DOCUMENTS, indent=indent, ensure_ascii=False)
    found = read(text.encode())
    assert values(found) == DOCUMENTS
    if indent:
        lines = text.split("\n")
        assert [lines[d.line - 1].strip() for d in found] == ["{"] * len(found)


keys = st.text(max_size=3).filter(lambda key: not key.startswith("id"))  # of no record
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63).filter(lambda n: n not in (2, 3))  # kinds of messages
    | st.text(max_size=5)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner),
    max_leaves=5,
)


@given(st.lists(anything, max_size=5), st.sampled_from([None, 1]), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_lists_are_read_as_json_reads_them(elements, indent, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_BLOCK", block)
        assert values(read(json.dumps(elements, indent=indent).encode())) == elements


@given(st.lists(anything.filter(lambda v: not isinstance(v, list)), max_size=5))
@settings(max_examples=100, deadline=None)
def test_lines_are_read_as_json_reads_them(elements):
    found = read("\n".join(map(json.dumps, elements)).encode())
    assert [(d.line, d.value) for d in found] == list(enumerate(elements, 1))


def sequences() -> dict[str, str]:
    """Returns the documents in mixed forms."""
    pretty = [json.dumps(d, indent=2) for d in DOCUMENTS]
    line = [json.dumps(d) for d in DOCUMENTS]
    return {
        "lines": "\n".join(line) + "\n",
        "indented after a line": "\n".join(line[:1] + pretty[1:]),
        "by turns": "\n".join((line, line, pretty)[k % 3][k] for k in range(len(line))),
        "a list at the end": "\n".join(line[:9]) + "\n" + json.dumps(DOCUMENTS[9:]),
        "a wrapper at the end": "\n".join(line[:9]) + "\n" + json.dumps({"posts": DOCUMENTS[9:]}),
    }


@pytest.mark.parametrize("form", sequences())
@pytest.mark.parametrize("size", [1, 17, 100, 101, 1 << 20])
@pytest.mark.parametrize("block", [5, 64, 1 << 20])
def test_parts_hold_each_document_once_in_every_form(tmp_path, monkeypatch, form, size, block):
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    path = tmp_path / "posts.json"
    path.write_text(sequences()[form])
    found = [d for part in json_stream.parts(path, size) for d in json_stream.read_part(part)]
    assert values(found) == DOCUMENTS
    starts = [d.line for d in found]
    assert starts == sorted(starts) and starts[0] == 1
    lines = sequences()[form].split("\n")
    assert all(lines[k - 1].startswith(("{", "[")) for k in starts)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["id", "a", "é"]), anything),
            st.sampled_from([None, 0, 2]),
            st.sampled_from(["", " ", "\n", "\r\n", ",\n", "\n\n"]),
        ),
        max_size=6,
    ),
    st.integers(1, 40),
)
@settings(max_examples=200, deadline=None)
def test_any_sequence_of_documents_is_read(sequence, block):
    text = "".join(json.dumps(v, indent=indent) + after for v, indent, after in sequence)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_BLOCK", block)
        assert values(read(text.encode())) == [value for value, _, _ in sequence]


@given(
    st.lists(st.dictionaries(st.text("abé", max_size=2), anything, max_size=3), max_size=9),
    st.sampled_from([None, 0, 1, 3]),
    st.integers(0, 10**6),
    st.sampled_from(["", "}", "]", '"', "\n{", "x"]),
)
@settings(max_examples=200, deadline=None)
def test_damage_is_named_and_costs_only_documents_behind_it(documents, indent, place, piece):
    texts = [json.dumps(document, indent=indent) for document in documents]
    text = "\n".join(texts)
    place = place % (len(text) + 1)
    ends = [len("\n".join(texts[: k + 1])) for k in range(len(texts))]
    complete = sum(end <= place for end in ends)
    found = read((text[:place] + piece + text[place + 1 :]).encode())
    assert values(found[:complete]) == documents[:complete]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("form", ["list", "lines", "wrapper"])
def test_of_many_documents_the_damaged_one_is_lost(form, indent):
    texts = [json.dumps(document, indent=indent) for document in DOCUMENTS]
    texts[20] = texts[20][:-1]
    joined = (",\n" if form != "lines" else "\n").join(texts)
    around = {"list": "[\n%s\n]", "lines": "%s", "wrapper": '{"posts": [\n%s\n], "page": 1}'}
    found = read((around[form] % joined).encode())
    assert [d.fault for d in found if d.fault] == ["bad_json"]
    assert [d.value for d in found if not d.fault] == DOCUMENTS[:20] + DOCUMENTS[21:]


def test_a_list_that_breaks_off_ends_where_the_next_begins():
    text = json.dumps(DOCUMENTS[:5])[:-30] + "\n" + json.dumps(DOCUMENTS[5:9])
    found = read(text.encode())
    assert [d.fault for d in found if d.fault] == ["truncated_list"]
    assert [d.value for d in found if not d.fault] == DOCUMENTS[:4] + DOCUMENTS[5:9]


def test_an_object_with_an_id_is_no_wrapper():
    assert values(read(b'{"id": 1, "posts": [{"id": 2}]}')) == [{"id": 1, "posts": [{"id": 2}]}]
    text = json.dumps({"id": 1, "posts": [{"id": 2}]}, indent=1).encode()
    assert values(read(text)) == [{"id": 1, "posts": [{"id": 2}]}]


@pytest.mark.parametrize("form", ["list", "lines", "indented", "wrapper", "one line"])
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, form):
    monkeypatch.setattr(json_stream, "_BLOCK", 1 << 12)
    monkeypatch.setattr(json_text, "_WHOLE", 1 << 12)

    def peak(count: int) -> int:
        lines = [json.dumps({"id": i, "prompts": "tag, " * 20}) for i in range(count)]
        path = tmp_path / "posts.json"
        text = {
            "list": "[" + ",\n".join(lines) + "]",
            "lines": "\n".join(lines),
            "indented": "\n".join(json.dumps(json.loads(line), indent=2) for line in lines),
            "wrapper": '{"posts": [' + ",".join(lines) + "]}",
            "one line": "".join(lines),
        }
        path.write_text(text[form])
        tracemalloc.start()
        with text_files.open_binary(path) as stream:
            assert sum(1 for _ in json_stream.read(stream)) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    assert peak(3000) < 1.5 * peak(300) + 50_000


def test_a_byte_order_mark_is_no_fault():
    assert values(read(b"\xef\xbb\xbf" + LINES)) == DOCUMENTS
    assert values(read(b"\xef\xbb\xbf" + json.dumps(DOCUMENTS).encode())) == DOCUMENTS


def test_a_broken_line_costs_that_line():
    lines = LINES.splitlines()
    lines[7] = lines[7][:-5]
    found = read(b"\n".join(lines))
    assert [(d.line, d.fault) for d in found if d.fault] == [(8, "bad_json")]
    assert [d.value for d in found if not d.fault] == DOCUMENTS[:7] + DOCUMENTS[8:]


@pytest.mark.parametrize("block", [7, 1 << 20])
@pytest.mark.parametrize("kept", [0, 1, 30])
def test_a_broken_list_keeps_what_stands_before(kept, block, monkeypatch):
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    whole = json.dumps(DOCUMENTS[:kept])[:-1] + ("," if kept else "")
    found = read(whole.encode() + b'{"id": 5, "text')
    assert [d.value for d in found] == [*DOCUMENTS[:kept], '{"id": 5, "text']
    assert [d.fault for d in found] == [""] * kept + ["truncated_list"]


def test_a_list_that_never_closes_a_document_is_given_up(monkeypatch):
    monkeypatch.setattr(json_stream, "_LONGEST", 1000)
    monkeypatch.setattr(json_stream, "_BLOCK", 100)
    stream = io.BytesIO(b'[{"id": 1}, {"text": "' + b"x" * 100_000)
    found = list(json_stream.read(stream))
    assert [d.fault for d in found] == ["", "too_long"]
    assert stream.tell() < 10_000


def test_an_object_that_is_too_long_is_told_to_break_off(monkeypatch):
    """What stands in it and behind it is not read: nobody knows how many documents that were."""
    monkeypatch.setattr(json_stream, "_LONGEST", 1000)
    monkeypatch.setattr(json_stream, "_BLOCK", 100)
    by_ids = {str(k): {"text": "x" * 50} for k in range(100)}
    found = read(b'{"id": 1}\n' + json.dumps(by_ids).encode())
    assert [d.fault for d in found] == ["", "too_long"]


def test_what_an_answer_says_of_itself_may_stand_before_its_list(monkeypatch):
    monkeypatch.setattr(json_stream, "_LONGEST", 2000)
    monkeypatch.setattr(json_stream, "_BLOCK", 100)
    about = {"success": True, "count": len(DOCUMENTS), "message": None, "version": "1.2"}
    found = read(json.dumps(about | {"posts": DOCUMENTS * 9}, indent=1).encode())
    assert values(found) == DOCUMENTS * 9
    post = {"message": "x", "text": "", "images": [{"id": 7}], "id": 1}
    assert values(read(json.dumps(post).encode())) == [post]


@pytest.mark.parametrize("indent", [None, 1])
def test_of_two_lists_one_is_read_whatever_the_white_space_and_the_other_named(indent):
    """COCO's images say nothing of characters, so that nothing is lost with them."""
    images, own = [{"id": k} for k in (1, 2)], [{"id": k, "character": "ann"} for k in (1, 2)]
    coco = {"info": {"year": 2020}, "images": images, "annotations": own, "licenses": []}
    for document in (coco, {"images": images, "annotations": own}):
        found = read(json.dumps(document, indent=indent).encode())
        assert [(d.value, d.fault) for d in found] == [(v, "") for v in own]
    two = {"results": own, "posts": [{"id": 3, "tags": "a"}]}
    found = [(d.value, d.fault) for d in read(json.dumps(two, indent=indent).encode())]
    assert found == [({"id": 3, "tags": "a"}, ""), ("results", "second_list")]


def test_a_second_list_is_named_where_the_first_is_long(monkeypatch):
    monkeypatch.setattr(json_text, "_WHOLE", 1000)
    two = {"posts": DOCUMENTS * 9, "results": [{"id": 3, "tags": "a"}], "items": []}
    found = read(json.dumps(two, indent=1).encode())
    assert [d.value for d in found if not d.fault] == DOCUMENTS * 9
    assert [(d.value, d.fault) for d in found if d.fault] == [("results", "second_list")]


@pytest.mark.parametrize("between", ["", ",", " "])
def test_damage_behind_others_on_its_line_is_told_to_break_off(between):
    """The rest of the line, however many documents it holds, is lost with it."""
    texts = [json.dumps(document) for document in DOCUMENTS[:9]]
    texts[4] = texts[4][:-8]
    found = read(between.join(texts).encode() + b"\n" + LINES)
    assert [d.value for d in found if not d.fault] == DOCUMENTS[:4] + DOCUMENTS
    assert [d.fault for d in found if d.fault] == ["truncated_list"]


def test_bytes_that_are_not_utf8_cost_a_mark():
    for data in (b'{"a": "\xff", "b": 1}\n', b'[{"a": "\xff", "b": 1}]'):
        assert read(data) == [Document(1, {"a": "\ufffd", "b": 1}, "bad_utf8")]


def test_an_empty_list_has_no_documents_and_a_file_without_a_byte_is_named(tmp_path):
    path = tmp_path / "empty.json"
    for content, faults in ((b"", ["not_json"]), (b"[]", []), (b"\n", [])):
        path.write_bytes(content)
        found = [d for part in json_stream.parts(path) for d in json_stream.read_part(part)]
        assert [d.fault for d in found] == faults
    assert read(b"\n\n  \n") == read(b"[]") == []


@given(st.binary(max_size=60), st.sampled_from([b"", b"[", b'[{"id": 1}, ']))
@settings(max_examples=100, deadline=None)
def test_nothing_makes_it_raise(data, before):
    for document in read(before + data):
        assert document.line >= 1 and document.fault in (
            "",
            "bad_json",
            "not_json",
            "truncated_list",
            "too_long",
            "second_list",
            "damaged_file",
            "bad_utf8",
        )


MESSAGES = [[2, {"id": 1}], [3, "https://a/1.jpg", {"id": 1}], [3, "https://a/2.jpg", {"id": 2}]]


@pytest.mark.parametrize("indent", [None, 4])
def test_what_gallery_dl_dumps_is_what_it_says_of_files(indent):
    whole = json.dumps(MESSAGES, indent=indent).encode()
    lines = "\n".join(map(json.dumps, MESSAGES)).encode()
    assert values(read(whole)) == values(read(lines)) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "wrapped",
    [
        {"success": True, "data": {"posts": [{"id": 1}, {"id": 2}]}},
        {"response": {"data": {"images": [{"id": 1}, {"id": 2}], "total": 2}}},
        {"images": [{"id": 1}, {"id": 2}], "total": 2},
        {"records": [{"id": 1}, {"id": 2}], "offset": "x"},
        {"1": {"id": 1}, "2": {"id": 2}},
        {"page": 1, "any name": [{"id": 1}, {"id": 2}], "tags": [{"id": 7}]},
        [[{"id": 1}], [{"id": 2}]],  # pages that `jq --slurp` joined
        [{"posts": [{"id": 1}]}, {"posts": []}, {"posts": [{"id": 2}]}],
        {"features": [{"name": "id"}], "rows": [{"row": {"id": 1}}, {"row": {"id": 2}}]},
        {"took": 3, "hits": {"total": 2, "hits": [{"_source": {"id": 1}}, {"id": 2}]}},
    ],
)
def test_a_list_may_be_wrapped_more_than_once_or_have_ids_as_keys(wrapped, indent):
    found = read(json.dumps(wrapped, indent=indent).encode())
    assert values(found) == [{"id": 1}, {"id": 2}]


POSTS = [{"id": 1, "tags": "a"}, {"id": 2, "tags": "b"}]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "wrapped",
    [
        {f"{k:032x}": post for k, post in enumerate(POSTS)},  # by MD5
        {f"{post['id']}.jpg": post for post in POSTS},
        {"sendai": POSTS[:1], "naka": POSTS[1:]},  # by tag
        {"page1": {"posts": POSTS[:1]}, "page2": {"posts": POSTS[1:]}},
        {"id": 5, "name": "a pool", "post_count": 2, "posts": POSTS},
        {"favorites": POSTS, "artists": [{"id": 7, "name": "x"}]},
    ],
)
def test_posts_may_stand_in_one_object(wrapped, indent):
    assert values(read(json.dumps(wrapped, indent=indent).encode())) == POSTS


@pytest.mark.parametrize(
    "record",
    [
        {"id": 1, "tags": "a", "children": [{"id": 2, "tags": "b"}]},
        {"id": 1, "pools": [{"id": 2}], "notes": [{"id": 3}]},
        {"file": {"md5": "a"}, "tags": {"general": ["a"]}},
        {"id": 9, "image": "a.png", "persons": [{"character": "x", "bbox": [0, 0, 1, 1]}]},
    ],
)
def test_lists_and_objects_in_a_record_are_no_records(record):
    assert values(read(json.dumps(record).encode())) == [record]


@pytest.mark.parametrize("text", ["[1, 2,]", "[\n1,\n2,\n]\n", '{"posts": [1, 2,]}'])
def test_a_list_may_end_with_a_comma(text):
    assert values(read(text.encode())) == [1, 2]


@pytest.mark.parametrize("indent", [None, 1])
def test_half_a_character_is_no_utf8(indent):
    whole, half = {"id": 1, "a": "\U0001f600"}, {"id": 2, "a": "b\ud83d"}
    found = read("\n".join(json.dumps(v, indent=indent) for v in (whole, half, whole)).encode())
    assert [d.fault for d in found] == ["", "bad_utf8", ""]
    assert [d.value for d in found] == [whole, half | {"a": "b\ufffd"}, whole]


def test_a_row_of_an_answer_is_its_record():
    text = b'{"row_idx": 0, "row": {"id": 1}}\n{"_id": "1", "_source": {"id": 2}}'
    assert values(read(text)) == [{"id": 1}, {"id": 2}]


def test_a_key_is_the_id_of_what_has_none():
    assert values(read(b'{"7": {"tags": "a"}}')) == [{"id": "7", "tags": "a"}]
