"""Files of every compression and encoding are the same UTF-8; damage in them is told."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile

import pytest

from tfds_retribooru import text_files
from tfds_retribooru.text_files import Utf8Source

TEXT = '{"id": 1, "é": "日本"}\n' * 50


def content(path, block=1 << 20) -> tuple[bytes, str]:
    with text_files.open_binary(path) as stream:
        source = Utf8Source(stream, block)
        return b"".join(iter(lambda: source.take(1 << 20), b"")), source.damage


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_ALONE)


def twice(data: bytes) -> bytes:
    return gzip.compress(bz2.compress(data))


COMPRESSIONS = [bytes, gzip.compress, bz2.compress, lzma.compress, lzma_alone, twice]


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.xz"])
def test_compression_is_told_by_the_content(tmp_path, compress, name):
    (tmp_path / name).write_bytes(compress(TEXT.encode()))
    assert content(tmp_path / name) == (TEXT.encode(), "")


def archive(kind: str, files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
        return data.getvalue()
    with tarfile.open(fileobj=data, mode=f"w:{kind}") as tarred:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tarred.addfile(member, io.BytesIO(content))
    return data.getvalue()


ARCHIVED = {
    "metadata/2017000000000000": b'{"id": 1}\n',
    "metadata/.hidden": b"not read",
    "__MACOSX/metadata/a.json": b"not read",
    "1.jpg": b"not read",
    "1.txt": b"not read",  # a caption, in a shard of webdataset
    "1.mp4": b"not read",
    "metadata/b.json": '{"id": 2, "é": 3}'.encode("utf-16"),
    "metadata/c.json.gz": gzip.compress(b'{"id": 4}'),
}


@pytest.mark.parametrize("kind", ["", "gz", "zip"])
def test_a_zip_in_an_archive_is_read_too(tmp_path, kind):
    inner = archive("zip", {"b.json": b"b"})
    (tmp_path / "a").write_bytes(archive(kind, {"a.json": b"a", "b.zip": inner, "c.json": b"c"}))
    assert content(tmp_path / "a") == (b"a\nb\n\nc\n", "")


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize("block", [3, 1 << 20])
def test_the_texts_of_an_archive_are_read_one_behind_the_other(tmp_path, kind, block):
    (tmp_path / "metadata.json.tar.xz").write_bytes(archive(kind, ARCHIVED))
    found = content(tmp_path / "metadata.json.tar.xz", block)
    assert found == ('{"id": 1}\n\n{"id": 2, "é": 3}\n{"id": 4}\n'.encode(), "")


@pytest.mark.parametrize("kind", ["", "gz"])
def test_links_in_an_archive_end_nothing(tmp_path, kind):
    """What they lead to is read where it lies."""
    for name in ("a", "c"):
        (tmp_path / f"{name}.json").write_text(name)
    (tmp_path / "b.json").symlink_to("a.json")
    os.link(tmp_path / "a.json", tmp_path / "b2.json")
    with tarfile.open(tmp_path / "meta.tar", f"w:{kind}") as archived:
        for name in ("a", "b", "b2", "c"):
            archived.add(tmp_path / f"{name}.json", f"{name}.json")
    assert content(tmp_path / "meta.tar") == (b"a\nc\n", "")


@pytest.mark.parametrize("kind", ["", "gz", "xz", "zip"])
def test_an_archive_that_breaks_off_is_damaged(tmp_path, kind):
    lines = b"".join(b'{"id": %d}\n' % (k * 7919 % 100_003) for k in range(50_000))
    data = archive(kind, {"a.json": b'{"id": 1}\n', "b.json": lines})
    (tmp_path / "a").write_bytes(data[: len(data) // 2])
    found, damage = content(tmp_path / "a")
    assert damage and len(found) < len(lines)


def test_zstd_is_read_where_a_package_can(tmp_path):
    zstd = pytest.importorskip("backports.zstd", reason="backports.zstd is not installed")
    data = zstd.compress(TEXT.encode())
    (tmp_path / "a.json").write_bytes(data + data)
    assert content(tmp_path / "a.json") == (2 * TEXT.encode(), "")
    (tmp_path / "a.json").write_bytes(data + data[:-9])
    found, damage = content(tmp_path / "a.json")
    assert found.startswith(TEXT.encode()) and damage


@pytest.mark.parametrize("start", [b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\4\0\0\0"])  # pzstd's
def test_zstd_without_a_package_is_an_error_that_names_one(tmp_path, monkeypatch, start):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(text_files.importlib, "import_module", missing)
    (tmp_path / "a.json").write_bytes(start + b"\0" * 20)
    with pytest.raises(
        ValueError, match=r"a.json is compressed by zstd: pip install backports.zstd"
    ):
        content(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_other_encodings_are_converted(tmp_path, encoding, block):
    (tmp_path / "a").write_bytes(TEXT.encode(encoding))
    assert content(tmp_path / "a", block) == (TEXT.encode(), "")


def test_half_a_character_of_utf16_is_no_utf8_afterwards(tmp_path):
    (tmp_path / "a").write_bytes('{"a'.encode("utf-16") + b"\x00\xd8" + '"}'.encode("utf-16-le"))
    assert content(tmp_path / "a")[0] == b'{"a\xff"}'


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_that_breaks_off_gives_what_stands_before(tmp_path, compress):
    data = "\n".join(str(k**5) for k in range(50_000)).encode()
    (tmp_path / "a").write_bytes(compress(data)[:-40])
    found, damage = content(tmp_path / "a", 1 << 12)
    assert data.startswith(found) and len(found) > 1000 and damage


@pytest.mark.parametrize("block", [1, 2, 5, 100])
def test_lines_and_blocks_can_be_given_back(block):
    source = Utf8Source(io.BytesIO(b"ab\ncd\n\nefgh"), block)
    for size in (1, 2, 4):
        taken = b""
        while len(taken) < size:
            taken += source.take(size - len(taken))
        source.give_back(taken)
        assert source.position == 0
    assert b"".join(iter(source.readline, b"")) == b"ab\ncd\n\nefgh"
    assert source.position == 11 and source.ended


def test_lines_end_where_they_end_or_after_a_block():
    source = Utf8Source(io.BytesIO(b"ab\n\n" + b"x" * 20 + b"\ny"), 16)
    lines = list(iter(source.readline, b""))
    assert lines[:2] == [b"ab\n", b"\n"] and lines[-1] == b"y"
    assert b"".join(lines[2:-1]) == b"x" * 20 + b"\n"
