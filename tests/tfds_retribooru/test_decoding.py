"""Metadata never costs an image, and embedded profiles are converted to sRGB."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin, TiffTags, features

from tests.helpers import retribooru_folder
from tfds_retribooru import decoding, images, masks

SIZE = (37, 23)  # width, height
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return retribooru_folder.draw_image(1, SIZE)


@pytest.fixture(scope="module")
def png(image) -> bytes:
    return retribooru_folder.encoded(image)


@pytest.fixture(scope="module")
def jpeg(image) -> bytes:
    return retribooru_folder.encoded(image, "JPEG", quality=100, subsampling=0)


def with_chunk(png: bytes, kind: bytes, body: bytes, *, checksum=None, before=b"IDAT") -> bytes:
    """A PNG with one chunk more."""
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    place = png.index(before) - 4
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)
    return png[:place] + chunk + png[place:]


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one segment more."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def exif(*entries: tuple[int, int, bytes]) -> bytes:
    """EXIF data of (tag, type, 4 bytes, or more that are stored behind)."""
    count, bodies, directory = len(entries), b"", b""
    for tag, kind, value in entries:
        if len(value) > 4:
            place = struct.pack("<I", 8 + 2 + 12 * count + 4 + len(bodies))
            bodies, value = bodies + value, place
        directory += struct.pack("<HHI", tag, kind, 1) + value.ljust(4, b"\0")
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, count)
    return head + directory + bytes(4) + bodies


ROTATED = 0x0112, 3, struct.pack("<H", 6)


def test_orientation_is_applied_beside_a_value_that_cannot_be_written_again(image):
    broken = exif(ROTATED, (0x011A, 10, struct.pack("<ii", -1, 0)))
    data = retribooru_folder.encoded(image, "JPEG", exif=broken)
    assert decoding.decode(data).image.size == SIZE[::-1]


@pytest.mark.parametrize(
    "kind, body",
    [
        (b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"tEXt", b"prompt\0" + b"x" * 70_000_000),
        (b"iCCP", b"big\0\0" + zlib.compress(SRGB + bytes(3_000_000))),
        (b"iCCP", b"unknown method\0\5" + zlib.compress(SRGB)),
        (b"iCCP", b""),
        (b"gAMA", b"1"),
        (b"acTL", b"1"),
        (b"eXIf", b"broken"),
    ],
)
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_chunks_of_any_size_and_content_cost_nothing(png, image, kind, body, before):
    decoded = decoding.decode(with_chunk(png, kind, body, before=before))
    np.testing.assert_array_equal(decoded.image, image)


def test_a_wrong_checksum_of_metadata_costs_nothing(png, image):
    text = with_chunk(png, b"tEXt", b"a\0b", checksum=0)
    np.testing.assert_array_equal(decoding.decode(text).image, image)
    with pytest.raises(decoding.Unreadable):
        decoding.decode(text[:-200])


def test_orientation_survives_beside_a_broken_chunk(image):
    data = retribooru_folder.encoded(image, "PNG", exif=exif(ROTATED))
    assert decoding.decode(with_chunk(data, b"gAMA", b"")).image.size == SIZE[::-1]


@pytest.mark.parametrize(
    "marker, body",
    [
        (0xEE, b"Adobe"),
        (0xE0, b"JFIF"),
        (0xE1, b"Exif\0\0MM\0*\0\0"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1\1broken"),
        (0xE2, b"MPF\0" + b"\xff" * 40),
        (0xFE, b"x" * 65000),
    ],
)
def test_broken_segments_of_a_jpeg_cost_nothing(jpeg, image, marker, body):
    decoded = decoding.decode(with_segment(jpeg, marker, body))
    assert np.abs(np.asarray(decoded.image, int) - np.asarray(image)).max() < 12


def test_broken_exif_of_an_avif_costs_nothing(image):
    good = exif(ROTATED, (0x0131, 2, b"program\0"))
    data = retribooru_folder.encoded(image, "AVIF", exif=good)
    cut = data.replace(b"II*\0", b"\0\0\0\0")
    assert cut != data
    assert decoding.decode(cut).image.size in (SIZE, SIZE[::-1])


@pytest.mark.parametrize("side", [None, 20])
def test_what_is_stored_has_no_metadata(image, side):
    data = retribooru_folder.encoded(image.convert("P"), "GIF", comment=b"c" * 70_000)
    stored = Image.open(io.BytesIO(images.prepare(data, side).data))
    assert not {"comment", "icc_profile", "exif"} & stored.info.keys()


# --- profiles


def profile(matrix: np.ndarray, gamma: float) -> bytes:
    """An ICC profile of colours whose linear RGB times `matrix` is XYZ under D50."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(65536 * value)) for value in values)

    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\2a\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
        **{
            name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*column)
            for name, column in zip((b"r", b"g", b"b"), matrix.T, strict=True)
        },
        **{
            name + b"TRC": b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(gamma * 256)) + b"\0\0"
            for name in (b"r", b"g", b"b")
        },
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        place = 128 + 4 + 12 * len(tags) + len(body)
        table += name + struct.pack(">II", place, len(value))
        body += value
    head = bytes(8) + b"\2\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += fixed(0.9642, 1, 0.8249)
    data = head.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(data)) + data[4:]


P3_TO_XYZ = np.array(  # D50
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
SRGB_TO_XYZ = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
P3 = profile(P3_TO_XYZ, 2.2)


def srgb_of(pixels: np.ndarray) -> np.ndarray:
    """Display P3 of gamma 2.2 -> sRGB, by the formulas."""
    linear = (pixels / 255) ** 2.2 @ (np.linalg.inv(SRGB_TO_XYZ) @ P3_TO_XYZ).T
    linear = linear.clip(0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curve


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_display_p3_is_converted(image, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = retribooru_folder.encoded(image, kind, icc_profile=P3, **options)
    before = np.asarray(Image.open(io.BytesIO(data)), float)
    decoded = decoding.decode(data)
    assert np.abs(before - srgb_of(before)).max() > 20
    np.testing.assert_allclose(np.asarray(decoded.image), srgb_of(before), atol=3)
    assert not decoded.is_plain and not decoded.image.info
    stored = Image.open(io.BytesIO(images.prepare(data, None).data))
    np.testing.assert_array_equal(stored, decoded.image)


def test_a_profile_that_pillow_finds_too_large_is_converted(png, image):
    body = b"big\0\0" + zlib.compress(P3 + bytes(3_000_000))
    decoded = decoding.decode(with_chunk(png, b"iCCP", body))
    np.testing.assert_allclose(np.asarray(decoded.image), srgb_of(np.asarray(image, float)), atol=3)


def test_colours_are_converted_before_they_are_laid_over_white(image):
    clear = image.copy()
    clear.putalpha(128)
    decoded = decoding.decode(retribooru_folder.encoded(clear, icc_profile=P3)).image
    share = 128 / 255
    expected = share * srgb_of(np.asarray(image, float)) + (1 - share) * 255
    np.testing.assert_allclose(np.asarray(decoded), expected, atol=3)


def test_palettes_are_converted(image):
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    decoded = decoding.decode(retribooru_folder.encoded(palette, icc_profile=P3)).image
    expected = srgb_of(np.asarray(palette.convert("RGB"), float))
    np.testing.assert_allclose(np.asarray(decoded), expected, atol=3)


@pytest.mark.parametrize("given", [SRGB, b"broken", SRGB[:200], P3[:100], bytes(200)])
def test_srgb_and_broken_profiles_change_nothing(image, given):
    data = retribooru_folder.encoded(image, icc_profile=given)
    decoded = decoding.decode(data)
    np.testing.assert_array_equal(decoded.image, image)
    assert decoded.is_plain


@pytest.mark.parametrize("mode", ["L", "CMYK", "LA", "I;16"])
def test_a_profile_of_another_kind_of_image_is_ignored(image, mode):
    if mode == "I;16":
        other = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        other = image.convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    plain, profiled = (
        decoding.decode(retribooru_folder.encoded(other, kind, **options)).image
        for options in ({}, {"icc_profile": P3})
    )
    np.testing.assert_array_equal(plain, profiled)


@pytest.mark.parametrize("largest", [255, 65535])
def test_whole_numbers_of_32_bits_hold_8_or_16(image, largest):
    grey = np.asarray(image.convert("L"))
    wide = Image.fromarray(grey.astype(np.int32) * (largest // 255))
    assert wide.mode == "I"
    decoded = decoding.decode(retribooru_folder.encoded(wide, "TIFF"))
    np.testing.assert_array_equal(decoded.image, image.convert("L").convert("RGB"))


def test_colours_of_16_bits_are_stored_in_8(image):
    pixels = (np.asarray(image, np.uint16) * 256 + 77).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    deep = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        deep += struct.pack(">I", len(body)) + kind + body
        deep += struct.pack(">I", zlib.crc32(kind + body))
    decoded = decoding.decode(deep)
    np.testing.assert_array_equal(decoded.image, image)
    assert not decoded.is_plain
    stored = images.prepare(deep, None).data
    assert stored[24] == 8  # bits a channel
    np.testing.assert_array_equal(Image.open(io.BytesIO(stored)), image)


@pytest.mark.filterwarnings("ignore:image file could not be identified")
@pytest.mark.parametrize("kind", ["AVIF", "WEBP"])
def test_a_picture_that_this_pillow_cannot_read_says_so(kind, monkeypatch):
    data = retribooru_folder.encoded(retribooru_folder.draw_image(1), kind)
    monkeypatch.setattr(f"PIL.{kind.title().replace('p', 'P')}ImagePlugin.SUPPORTED", False)
    monkeypatch.setattr(features, "check", lambda name: name != kind.lower())
    with pytest.raises(decoding.Unreadable, match=f"{kind}, which the installed Pillow lacks"):
        decoding.decode(data)


def without_palette(image: Image.Image) -> bytes:
    """A PNG with a palette, without its palette."""
    png = retribooru_folder.encoded(image.quantize(64))
    start = png.index(b"PLTE") - 4
    return png[:start] + png[start + 12 + struct.unpack(">I", png[start : start + 4])[0] :]


@pytest.mark.filterwarnings("ignore:image file could not be identified")
def test_a_palette_that_is_missing_costs_its_picture(image):
    data = without_palette(image)
    with pytest.raises(decoding.Unreadable, match="does not decode"):
        decoding.decode(data)
    assert not masks.is_likely(data)
    with pytest.raises(decoding.Unreadable, match="does not decode"):
        masks.decode(data, SIZE)


@pytest.mark.parametrize(
    "tags", [{254: 1, 330: (8,)}, {50706: b"\1\4\0\0"}], ids=["SubIFDs", "DNG"]
)
def test_the_small_picture_of_a_camera_s_raw_file_is_not_the_picture(image, tags):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info.tagtype[tag] = TiffTags.BYTE if isinstance(value, bytes) else TiffTags.LONG
        info[tag] = value
    held = io.BytesIO()
    image.save(held, "TIFF", tiffinfo=info)
    with pytest.raises(decoding.Unreadable, match="camera RAW: convert it"):
        decoding.decode(held.getvalue())
    assert decoding.decode(retribooru_folder.encoded(image, "TIFF")).image.size == image.size


def test_what_is_transparent_everywhere_is_no_picture_but_in_a_bitmap(image):
    clear = image.convert("RGBA")
    clear.putalpha(0)
    with pytest.raises(decoding.Unreadable, match="transparent everywhere"):
        decoding.decode(retribooru_folder.encoded(clear))
    found = decoding.decode(bitmap(clear)).image
    np.testing.assert_array_equal(found, image)
    clear.putpixel((0, 0), (0, 0, 0, 255))
    assert np.asarray(decoding.decode(retribooru_folder.encoded(clear)).image)[0, 0].max() == 0


def bitmap(image: Image.Image) -> bytes:
    """A BMP of version 4, which says where the four channels are."""
    body = np.asarray(image)[::-1, :, [2, 1, 0, 3]].tobytes()
    head = struct.pack("<IiiHHIIiiII", 108, *image.size, 1, 32, 3, len(body), 0, 0, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + body
