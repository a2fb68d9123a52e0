"""References of a user: files, boxes, masks, and what is wrong with them."""

import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from rbjax.inference import reference as reference_lib
from rbjax.inference.reference import Reference, parse


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a.png: 6 x 10 pixels (H x W), a red box in blue; mask.png shows that box."""
    image = np.zeros((6, 10, 3), np.uint8)
    image[..., 2] = 255
    image[2:5, 3:7] = (255, 0, 0)
    Image.fromarray(image).save(tmp_path / "a.png")
    mask = np.where(image[..., 0] > 0, 200, 100).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_alone_counts_as_a_whole(folder):
    reference = parse("face", "a.png")
    assert reference.box is None and reference.image.shape == (6, 10, 3)


@pytest.mark.parametrize("text", ["a.png@3,2,4,3", "a.png@mask.png"])
def test_box_and_mask_give_the_same_part(folder, text):
    assert parse("clothes", text).box == (3, 2, 4, 3)


def test_crop_shows_the_box_alone(folder):
    view = parse("face", "a.png@3,2,3,3").crop(6, "crop")
    np.testing.assert_array_equal(view, np.broadcast_to((255, 0, 0), (6, 6, 3)))


def test_in_place_leaves_the_box_where_it_is(folder):
    view = parse("face", "a.png@3,2,4,3").crop(10, "in_place")
    expected = np.full((10, 10, 3), 255, np.uint8)
    expected[4:7, 3:7] = (255, 0, 0)  # 6 rows in the middle of 10
    np.testing.assert_array_equal(view, expected)


def test_an_at_sign_may_be_part_of_a_name(folder):
    (folder / "a.png").rename(folder / "a@2x.png")
    assert parse("face", "a@2x.png").box is None
    assert parse("face", "a@2x.png@0,0,1,1").box == (0, 0, 1, 1)


def test_at_signs_may_be_anywhere(folder):
    place = folder / "jane@corp.example"
    place.mkdir()
    for name in ("a.png", "mask.png"):
        shutil.copy(folder / name, place)
        shutil.copy(folder / name, place / name.replace(".", "@2x."))
    for file in (place / "a.png", place / "a@2x.png", "a.png"):
        for mask in (place / "mask.png", place / "mask@2x.png", "mask.png", "3,2,4,3"):
            assert parse("face", f"{file}@{mask}").box == (3, 2, 4, 3)
    with pytest.raises(FileNotFoundError, match="no reference image .*/jane@corp.example/b.png$"):
        parse("face", f"{place}/b.png")
    with pytest.raises(ValueError, match="after @ stands 'none@2x.png'"):
        parse("face", f"{place}/a.png@none@2x.png")


def test_names_may_be_long(folder):
    names = "a" * 240 + ".png", "m" * 240 + ".png"
    for old, new in zip(("a.png", "mask.png"), names, strict=True):
        (folder / old).rename(folder / new)
    assert parse("face", "@".join(names)).box == (3, 2, 4, 3)


def test_masks_of_0_and_1_and_alpha_are_read(folder):
    inside = np.zeros((6, 10), np.uint8)
    inside[2:5, 3:7] = 1
    Image.fromarray(inside).save("ones.png")
    cut_out = Image.new("RGB", (10, 6), (9, 9, 9))
    cut_out.putalpha(Image.fromarray(inside * 255))
    cut_out.save("cut.png")
    for mask in ("ones.png", "cut.png"):
        assert parse("face", f"a.png@{mask}").box == (3, 2, 4, 3)


def test_a_full_mask_is_refused(folder):
    Image.new("L", (10, 6), 255).save("full.png")
    with pytest.raises(ValueError, match="full.png cannot be used as a mask: the mask is full"):
        parse("face", "a.png@full.png")


def test_metadata_costs_no_reference(folder):
    image = Image.open("a.png")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2)
    exif += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 10, 1, 38)
    image.save("turned.jpg", exif=exif + bytes(4) + struct.pack("<ii", -1, 0))
    assert reference_lib.read("turned.jpg").shape == (10, 6, 3)


def test_the_home_directory_may_be_abbreviated(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert parse("clothes", "~/a.png@~/mask.png").box == (3, 2, 4, 3)


@pytest.mark.parametrize("text", ["https://a.org/b.png", "https://a.org/b.png@0,0,1,1"])
def test_urls_are_refused(text):
    with pytest.raises(ValueError, match="https://a.org/b.png.* is a URL; only files"):
        parse("face", text)


def test_transparency_is_white(folder):
    image = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    image.save("clear.png")
    with pytest.raises(ValueError, match="clear.png .*transparent everywhere"):
        reference_lib.read("clear.png")
    image.putpixel((0, 0), (9, 9, 9, 255))
    image.save("seen.png")
    assert reference_lib.read("seen.png")[..., 0].tolist() == [[9, 255], [255, 255]]


@pytest.mark.parametrize("box", [(0, 0, 11, 1), (0, 4, 1, 3), (-1, 0, 2, 2), (0, 0, 0, 1)])
def test_a_box_outside_is_refused(box):
    with pytest.raises(ValueError, match="not inside its image of 10x6"):
        Reference("face", np.zeros((6, 10, 3), np.uint8), box)


def test_unknown_concepts_are_refused():
    with pytest.raises(ValueError, match="concept 'hat'"):
        Reference("hat", np.zeros((6, 10, 3), np.uint8))


def test_a_file_that_is_no_image_is_named(folder):
    (folder / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match="notes.txt is not an image"):
        parse("face", "notes.txt")


def test_a_picture_of_too_many_pixels_is_refused(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 29)  # a.png has more than twice as many
    with pytest.raises(ValueError, match="a.png is not an image that can be read: .*limit"):
        parse("face", "a.png")


def test_a_missing_file_is_named(folder):
    with pytest.raises(FileNotFoundError, match="no reference image b.png"):
        parse("face", "b.png@0,0,1,1")


def test_masks_that_do_not_fit_are_refused(folder):
    Image.new("L", (3, 3), 255).save("other.png")
    with pytest.raises(ValueError, match="other.png .* another size .* 3x3, the picture 10x6"):
        parse("face", "a.png@other.png")
    Image.new("L", (10, 6), 0).save("empty.png")
    with pytest.raises(ValueError, match="the mask is empty"):
        parse("face", "a.png@empty.png")


def test_sixteen_bits_are_scaled_to_eight(folder):
    grey = np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000
    Image.fromarray(grey).save("deep.png")
    expected = np.repeat(np.round(grey / 257)[..., None], 3, axis=2)
    np.testing.assert_array_equal(reference_lib.read("deep.png"), expected)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif", "tif", "avif"])
def test_truncated_files_are_named(folder, kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(noise).save(f"whole.{kind}")
    whole = (folder / f"whole.{kind}").read_bytes()
    (folder / f"cut.{kind}").write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(ValueError, match=f"cut.{kind} is not an image that can be read"):
        parse("face", f"cut.{kind}")


def test_more_than_sixteen_bits_are_refused(folder):
    Image.fromarray(np.full((3, 4), 70000, np.int32)).save("deep.tif")
    with pytest.raises(ValueError, match="more than 16 bits"):
        reference_lib.read("deep.tif")


def test_a_mask_is_black_where_it_is_transparent(folder):
    mask = Image.new("RGBA", (10, 6), (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (3, 2, 7, 5))
    mask.save("clear.png")
    assert parse("clothes", "a.png@clear.png").box == (3, 2, 4, 3)


@pytest.mark.parametrize("part", ["1,2,3", "1.5,2,3,4", "", "none.png"])
def test_what_is_neither_box_nor_mask_says_what_is_expected(folder, part):
    with pytest.raises(
        ValueError, match=f"after @ stands '{part}'; expected left,top,width,height"
    ):
        parse("face", f"a.png@{part}")


@pytest.mark.parametrize("image", [np.zeros((3, 3)), np.zeros((3, 3, 4), np.uint8), "a.png"])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match=r"must be a uint8 array \[H, W, 3\], not"):
        Reference("face", image)
