"""Image files: what is converted how, and what is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.helpers import retribooru_folder
from tfds_retribooru import boxes, images
from tfds_retribooru.images import Unreadable, decode, prepare

SIZE = (37, 23)  # width, height


@pytest.fixture(scope="module")
def rgb() -> Image.Image:
    return retribooru_folder.draw_image(1, SIZE)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decoded(image: Image.Image, kind="PNG", **options) -> np.ndarray:
    upright = decode(retribooru_folder.encoded(image, kind, **options))
    assert upright.mode == "RGB"
    return np.asarray(upright)


# --- what is converted


@pytest.mark.parametrize("kind, mode", [("PNG", "L"), ("PNG", "1"), ("GIF", "P"), ("PNG", "P")])
def test_grey_and_palette(rgb, kind, mode):
    image = rgb.convert(mode)
    np.testing.assert_array_equal(decoded(image, kind), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg(rgb):
    image = decoded(rgb.convert("CMYK"), "JPEG", quality=100)
    assert np.abs(image.astype(int) - np.asarray(rgb)).mean() < 3


@pytest.mark.parametrize("lossless, bound", [(True, 0), (False, 8)])
def test_webp(rgb, lossless, bound):
    image = decoded(rgb, "WEBP", lossless=lossless, quality=95)
    assert np.abs(image.astype(int) - np.asarray(rgb)).mean() <= bound


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(kind):
    grey = np.linspace(0, 65535, 20 * 30).astype(np.uint16).reshape(20, 30)
    image = decoded(Image.fromarray(grey), kind)
    np.testing.assert_array_equal(image[..., 0], np.round(grey / 257))
    assert (image[..., :1] == image).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_turned_upright(rgb, orientation):
    turn = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],  # stored so that a turn by 270 makes it upright
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = rgb
    for step in turn.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decoded(stored, "PNG", exif=exif.tobytes()), np.asarray(rgb))


def test_broken_exif_costs_nothing(rgb):
    image = decoded(rgb, "JPEG", exif=b"Exif\0\0broken", quality=100, subsampling=0)
    assert image.shape == (*SIZE[::-1], 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_laid_over_white(rgb, kind):
    alpha = np.zeros(SIZE[::-1], np.uint8)
    alpha[:, 10:] = 255
    alpha[:, 20:] = 128
    image = rgb.copy()
    image.putalpha(Image.fromarray(alpha))
    part = (alpha / 255)[..., None]
    expected = np.asarray(rgb) * part + 255 * (1 - part)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.abs(decoded(image, kind, **options) - expected).max() <= 1


def test_a_transparent_palette_colour_is_white():
    image = Image.new("P", (20, 20), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 5, 20))
    shown = decoded(image, "GIF", transparency=0)
    assert (shown[:, :5] == 255).all() and (shown[:, 5:] == (0, 0, 255)).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(kind):
    frames = [Image.new("RGB", (20, 20), c) for c in ((255, 0, 0), (0, 255, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    shown = decoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (shown == (255, 0, 0)).all()


# --- what is refused


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims this size and holds nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "the picture's file is empty"),
        (b"<html>not found</html>", "the file is no picture of a known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "the file is no picture of a known kind"),
        (b"\xff\x0a" + bytes(90), "the picture is of a format that is not read"),
        (png_of(1, 1), "the picture has too few pixels"),
        (png_of(5000, 15), "the picture has too few pixels"),
        (png_of(20000, 20000), "the picture has too many pixels"),
        (png_of(100_000, 100_000), "the picture has too many pixels"),
        (png_of(20000, 100), "the picture has too many pixels"),
        (png_of(30, 30), "the picture does not decode"),
    ],
)
def test_refused(data, reason):
    with pytest.raises(Unreadable) as error:
        prepare(data, 384)
    assert error.value.reason == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files_are_refused(kind, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = retribooru_folder.encoded(noise, kind)
    with pytest.raises(Unreadable):
        prepare(data[: int(share * len(data))], None)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_headers_that_end_at_any_byte_are_refused(rgb, kind):
    data = retribooru_folder.encoded(rgb, kind)
    for end in range(min(640, len(data) - 64)):
        with pytest.raises(Unreadable):
            prepare(data[:end], None)


# --- size


@pytest.mark.parametrize("size", [(120, 90), (90, 121), (33, 33)])
def test_the_shorter_side_is_the_mean_of_areas(size):
    image = retribooru_folder.draw_image(2, tuple(3 * n for n in size))
    small = np.asarray(images.shrink(image, min(size)))
    blocks = np.asarray(image, np.float64).reshape(size[1], 3, size[0], 3, 3)
    np.testing.assert_allclose(small, blocks.mean((1, 3)), atol=1)


def test_a_small_image_is_not_enlarged(rgb):
    assert images.shrink(rgb, 384) is rgb


def test_what_is_stored_is_close_to_the_image():
    image = retribooru_folder.draw_image(3, (300, 200))
    stored = prepare(retribooru_folder.encoded(image), 100)
    expected = np.asarray(image.resize((150, 100), Image.Resampling.BOX), int)
    assert np.abs(pixels(stored.data) - expected).mean() < 1.5


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_original_size_keeps_plain_files_byte_for_byte(rgb, kind):
    data = retribooru_folder.encoded(rgb, kind)
    assert prepare(data, None).data == data


@pytest.mark.parametrize("mode, kind", [("L", "PNG"), ("CMYK", "JPEG"), ("RGB", "WEBP")])
def test_the_original_size_loses_nothing_of_other_files(rgb, mode, kind):
    data = retribooru_folder.encoded(rgb.convert(mode), kind)
    stored = prepare(data, None)
    np.testing.assert_array_equal(pixels(stored.data), np.asarray(decode(data)))


def test_one_digest_for_one_image_in_two_files(rgb):
    files = [
        retribooru_folder.encoded(rgb),
        retribooru_folder.encoded(rgb, "PNG", compress_level=0),
        retribooru_folder.encoded(rgb, "BMP"),
    ]
    digests = {prepare(data, 384).digest for data in files}
    other = prepare(retribooru_folder.encoded(retribooru_folder.draw_image(9, SIZE)), 384).digest
    assert len(digests) == 1 and other not in digests


def test_shape_is_part_of_the_digest():
    black = np.zeros((20, 30, 3), np.uint8)
    assert images.digest(black) != images.digest(black.reshape(30, 20, 3))


# --- letterbox, box and mask


@pytest.fixture(scope="module")
def boxed():
    """(image, letterboxed file, its box, its mask file): 600x900 shrunk into 512x512."""
    image = retribooru_folder.draw_image(4, (341, 512))
    square = Image.new("RGB", (512, 512))
    square.paste(image, (85, 0))
    mask = Image.new("L", (512, 512))
    ImageDraw.Draw(mask).rectangle((85 + 100, 100, 85 + 199, 511), fill=255)
    box = ((85 + 0.5 * 341) / 512, 0.25, 0.2 * 341 / 512, 0.2)
    return image, retribooru_folder.encoded(square), box, retribooru_folder.encoded(mask)


def test_the_letterbox_is_removed_from_image_box_and_mask(boxed):
    image, data, box, mask = boxed
    stored = prepare(data, None, mask=mask, bbox=box, original=(600, 900))
    np.testing.assert_array_equal(pixels(stored.data), np.asarray(image))
    assert stored.bbox == pytest.approx((0.5, 0.25, 0.2, 0.2))
    figure = pixels(stored.mask)[..., 0]
    assert figure.shape == (512, 341) and (figure[100:, 100:200] == 255).all()
    assert figure.sum() == 255 * 100 * 412 and stored.faults == ()


@pytest.mark.parametrize("original", [None, (512, 512), (900, 900)])
def test_without_another_size_in_the_metadata_black_stays(boxed, original):
    stored = prepare(boxed[1], None, bbox=boxed[2], original=original)
    assert pixels(stored.data).shape == (512, 512, 3) and stored.bbox == boxed[2]


def test_bars_that_are_not_black_stay():
    image = retribooru_folder.draw_image(5, (512, 512))
    stored = prepare(retribooru_folder.encoded(image), None, original=(600, 900))
    np.testing.assert_array_equal(pixels(stored.data), np.asarray(image))


def test_a_small_original_was_not_enlarged():
    square = Image.new("RGB", (512, 512))
    square.paste(retribooru_folder.draw_image(6, (200, 100)), (156, 206))
    stored = prepare(retribooru_folder.encoded(square), None, original=(200, 100))
    np.testing.assert_array_equal(
        pixels(stored.data), np.asarray(retribooru_folder.draw_image(6, (200, 100)))
    )


@pytest.mark.parametrize(
    "original, is_lost",
    [(None, False), ((400, 600), False), ((402, 590), False), ((600, 400), True)],
)
def test_a_box_in_pixels_of_a_picture_of_another_shape_is_lost(original, is_lost):
    """As of a camera's file that is shown upright, with its width and height from before."""
    data = retribooru_folder.encoded(retribooru_folder.draw_image(7, (200, 300)))
    box = ((100, 100, 40, 40), boxes.FORMATS[0])
    stored = prepare(data, None, pixel_box=box, original=original)
    reasons = [reason for part, reason, _ in stored.faults if part == "bbox"]
    assert reasons == ([images.OTHER_SIZE] if is_lost else [])
    assert (stored.bbox is None) == is_lost


def test_a_box_in_the_bars_is_lost(boxed):
    stored = prepare(boxed[1], None, bbox=(0.05, 0.5, 0.08, 0.1), original=(600, 900))
    assert stored.bbox is None
    assert [part for part, *_ in stored.faults] == ["bbox"]


def test_the_mask_is_resized_with_the_image(boxed):
    stored = prepare(boxed[1], 100, mask=boxed[3], original=(600, 900))
    assert pixels(stored.data).shape == pixels(stored.mask).shape == (150, 100, 3)


@pytest.mark.parametrize(
    "mask, reason",
    [
        (
            retribooru_folder.encoded(Image.new("L", (30, 30))),
            "the mask is of another size than the picture",
        ),
        (b"no picture", "the file is no picture of a known kind"),
        (b"", "the picture's file is empty"),
    ],
)
def test_a_bad_mask_costs_the_mask(rgb, mask, reason):
    stored = prepare(retribooru_folder.encoded(rgb), 384, mask=mask, bbox=(0.5, 0.5, 0.2, 0.2))
    assert stored.mask is None and stored.bbox == (0.5, 0.5, 0.2, 0.2)
    ((part, said, _),) = stored.faults
    assert (part, said) == ("mask", reason)
