"""Damaged and hostile input: an error that names it, or a result; never anything else.

Each test tries FUZZ_EXAMPLES inputs (30 where the variable is not set).
"""

import io
import json
import os
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from configs import composition
from rbjax.experiment import config_checks, workdir
from rbjax.inference import reference
from rbjax.interop import json_files, safetensors_files
from rbjax.text import prompts
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.train import checkpoint_files
from tfds_retribooru import decoding, json_stream

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "30")),
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,  # the same inputs each time
    suppress_health_check=list(HealthCheck),
)
SCRATCH = tempfile.TemporaryDirectory()
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)


def scratch(name: str, content: bytes) -> pathlib.Path:
    path = pathlib.Path(SCRATCH.name) / name
    path.write_bytes(content)
    return path


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """Draws `whole` with a few bytes changed, cut off, or with others in the middle."""
    data = bytearray(whole)
    for place, byte in draw(EDITS):
        data[int(place * (len(data) - 1))] = byte
    at, inserted = int(draw(st.floats(0, 1)) * len(data)), draw(st.binary(max_size=8))
    data[at:at] = inserted
    return bytes(data[: len(data) - draw(st.one_of(st.just(0), st.integers(0, len(data))))])


def image_file(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_images(kind):
    whole = image_file(kind)

    @fuzz
    @given(damaged(whole))
    @example(b"")
    def check(data):
        try:
            decoded = decoding.decode(data)
        except decoding.Unreadable:
            return
        assert decoded.image.mode == "RGB" and np.asarray(decoded.image).size

    check()


JSON = json.dumps({"a": [1, 2.5, None, True, {"b": "\u00e9 \n"}], "c": {}}).encode()


@fuzz
@given(st.one_of(damaged(JSON), st.binary(max_size=40)))
@example(b"[" * 3000)
@example(b'{"a":' * 3000)
@example(b'{"a": ' + b"9" * 5000 + b"}")
@example(b"\xff\xfe{}")
def test_json_files(data):
    path = scratch("a.json", data)
    try:
        assert isinstance(json_files.read(path), dict)
    except ValueError as error:
        assert str(path) in str(error)


@fuzz
@given(st.one_of(damaged(JSON), damaged(b'{"id": 1}\n{"id": 2}\n'), st.binary(max_size=40)))
@example(b"[" * 3000)
def test_streams_of_json(data):
    for _ in json_stream.read(io.BytesIO(data)):
        pass


TENSORS = save({"a": np.ones((2, 3), np.float32), "b.c": np.zeros(4, np.float16)})


@fuzz
@given(st.one_of(damaged(TENSORS), damaged(TENSORS[:100]), st.binary(max_size=64)))
@example((2**63).to_bytes(8, "little") + b"{}")
def test_safetensors(data):
    path = scratch("a.safetensors", data)
    try:
        for tensor in safetensors_files.open_file(path).values():
            np.asarray(tensor)
    except ValueError as error:
        assert str(path) in str(error)


TOKENIZER = tokenizer_lib.word_tokenizer({"tags": {"red hair": {}, "smile": {}}, "questions": {}})


@fuzz
@given(st.text(max_size=300), st.integers(4, 40))
@example("a" * 100_000, 8)
def test_tags(text, length):
    tags = prompts.fitting(TOKENIZER, prompts.split_tags(text), length)
    ids = prompts.encode(TOKENIZER, [", ".join(tags)], length)
    assert ids.shape == (1, length) and ids.dtype == np.int32
    assert ((ids >= 0) & (ids < TOKENIZER.get_vocab_size())).all()


@fuzz
@given(st.text(st.characters(codec=None), max_size=60))
@example("a \ud800, smile")
def test_prompts(text):
    """As a user types them; a byte that is no UTF-8 comes as half a character."""
    try:
        assert prompts.encode(TOKENIZER, [text], 20).shape == (1, 20)
    except ValueError as error:
        assert "20" in str(error)


CHECKPOINT = {"metadata": b'{"position": 3}', "state/d/0": bytes(range(200))}


@fuzz
@given(st.sampled_from([*CHECKPOINT, checkpoint_files.CHECKSUMS]), st.data())
def test_checkpoints(name, data):
    """Another file is always found; other checksums are too, unless they say the same."""
    folder = pathlib.Path(SCRATCH.name) / "checkpoint"
    for file, content in CHECKPOINT.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    (folder / checkpoint_files.CHECKSUMS).unlink(missing_ok=True)
    checkpoint_files.write_checksums(folder)
    assert not checkpoint_files.find_damage(folder)
    whole = (folder / name).read_bytes()
    changed = data.draw(damaged(whole))
    (folder / name).write_bytes(changed)
    found = checkpoint_files.find_damage(folder)
    if name == checkpoint_files.CHECKSUMS:
        assert isinstance(found, str)
    else:
        assert bool(found) == (changed != whole) and (not found or name in found)


@fuzz
@given(
    st.sampled_from(
        ["[]", "3", '"x"', "null", '{"a": 1}', '{"": "x"}', '{"../../a": "x"}', "[" * 3000]
    )
)
def test_checksums_of_any_form(text):
    folder = pathlib.Path(SCRATCH.name) / "odd"
    folder.mkdir(exist_ok=True)
    (folder / checkpoint_files.CHECKSUMS).write_text(text)
    assert checkpoint_files.find_damage(folder)


@fuzz
@given(st.one_of(st.text(max_size=20), st.from_regex(r"-?\d{0,25}(,-?\d{0,25}){0,4}")))
@example("0,0,7,9")
@example("9" * 5000 + ",0,1,1")
@example("\0")
def test_references(part):
    path = scratch("a.png", image_file("PNG"))
    try:
        crop = reference.parse("face", f"{path}@{part}").crop(8, "crop")
    except (ValueError, FileNotFoundError):
        return
    assert crop.shape == (8, 8, 3)


NUMBERS = {
    int: st.integers(-(2**40), 2**40) | st.sampled_from([0, 1, -1]),
    float: st.floats() | st.sampled_from([0.0, 1.0, -1.0, 0.5]),
}


@fuzz
@given(st.data())
def test_configurations(data):
    """A number of any size is refused with its field's name, or might work."""
    config = composition.get_config("smoke")
    fields = {
        key: type(value)
        for key, value in workdir._flatten(config.to_dict()).items()
        if type(value) in NUMBERS
    }
    field = data.draw(st.sampled_from(sorted(fields)))
    config.update_from_flattened_dict({field: data.draw(NUMBERS[fields[field]])})
    try:
        config_checks.check(config)
    except ValueError as error:
        assert field.rpartition(".")[2] in str(error)
