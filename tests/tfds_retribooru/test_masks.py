"""Masks as people save them."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.helpers.retribooru_folder import draw_image, encoded
from tfds_retribooru import images, masks
from tfds_retribooru.boxes import Box

SIZE = (37, 23)  # width, height
FIGURE = np.zeros(SIZE[::-1], bool)
FIGURE[5:20, 9:30] = True


def grey(inside: int, outside=0, dtype=np.uint8) -> Image.Image:
    return Image.fromarray(np.where(FIGURE, inside, outside).astype(dtype))


def palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(FIGURE.astype(np.uint8)).convert("P")
    image.putpalette(colours)
    return image


def void() -> Image.Image:
    """Returns labels with 255 for what is uncertain, and colours of the first 21 alone (VOC)."""
    image = grey(255)
    image.paste(15, (10, 6, 29, 19))
    image = image.convert("P")
    image.putpalette([0, 0, 0] + [128, 0, 0] * 20)
    return image


def colours(outside: tuple[int, ...], *inside: tuple[int, ...]) -> Image.Image:
    """Returns labels in colours; a second one takes the lower half of the figure."""
    pixels = np.where(FIGURE[..., None], inside[0], outside)
    lower = FIGURE & (np.arange(SIZE[1]) > 11)[:, None]
    pixels[lower] = inside[-1]
    return Image.fromarray(pixels.astype(np.uint8))


def with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    image.putalpha(alpha)
    return image


MASKS = {
    "grey": grey(255),
    "0 and 1": grey(1),
    "1 bit": grey(255).convert("1"),
    "RGB": grey(255).convert("RGB"),
    "RGB of 0 and 1": grey(1).convert("RGB"),
    "16 bits": grey(65535, dtype=np.uint16),
    "0 and 255 in 16 bits": grey(255, dtype=np.uint16),
    "0 and 1 in 16 bits": grey(1, dtype=np.uint16),
    "labels in dark red": palette([0, 0, 0, 128, 0, 0]),
    "black and white palette": palette([0, 0, 0, 255, 255, 255]),
    "palette of 0 and 1": palette([0, 0, 0, 1, 1, 1]),
    "a label without a colour": void(),
    "cut-out": with_alpha(draw_image(1, SIZE), grey(255)),
    "black on nothing": with_alpha(Image.new("L", SIZE), grey(255)),
    "white on nothing": with_alpha(Image.new("L", SIZE, 255), grey(255)),
    "grey and opaque": with_alpha(grey(255), Image.new("L", SIZE, 255)),
    "CVAT's label": colours((0, 0, 0), (250, 50, 83)),
    "dark blue": colours((0, 0, 0), (0, 0, 90)),
    "labels in red and green": colours((0, 0, 0), (255, 0, 0), (0, 255, 0)),
    "colours, opaque": with_alpha(colours((0, 0, 0), (9, 9, 99)), Image.new("L", SIZE, 255)),
    "CMYK": grey(255).convert("RGB").convert("CMYK"),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_figure_is_found(name):
    kind = "TIFF" if name == "CMYK" else "PNG"
    mask = masks.decode(encoded(MASKS[name], kind), SIZE)
    assert mask.mode == "L"
    np.testing.assert_array_equal(np.asarray(mask) > masks.THRESHOLD, FIGURE)


@pytest.mark.parametrize("name", MASKS)
def test_masks_look_like_masks_and_a_cut_out_like_a_picture(name):
    data = encoded(MASKS[name], "TIFF" if name == "CMYK" else "PNG")
    is_picture = name == "cut-out"
    assert masks.is_picture(data) == masks.is_cut_out(data) == is_picture
    assert masks.is_likely(data) != is_picture


def photo(*black: tuple[int, int]) -> Image.Image:
    image = draw_image(1, SIZE)
    for place in black:
        image.putpixel(place, (0, 0, 0))
    return image


@pytest.mark.parametrize(
    "image, is_picture",
    [
        (photo(), True),
        (photo((0, 0)), True),  # a small picture has few colours, and black is one
        (photo().convert("L"), False),  # or a soft mask
        (grey(255).filter(ImageFilter.GaussianBlur(32)), False),
        (with_alpha(photo(), Image.new("L", SIZE, 255)), True),
        (colours((68, 1, 84), (253, 231, 37)), False),  # bad masks
        (grey(200, 30), False),
        (grey(255).filter(ImageFilter.GaussianBlur(1)), False),
        (with_alpha(photo(), Image.new("L", SIZE)), False),
    ],
)
def test_a_picture_is_told_from_a_bad_mask(image, is_picture):
    assert masks.is_picture(encoded(image)) == is_picture
    assert not (is_picture and masks.is_likely(encoded(image)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_cut_out_shows_its_picture_and_no_other(kind):
    cut_out = encoded(with_alpha(draw_image(1, SIZE), grey(255)))
    assert masks.is_of(cut_out, encoded(draw_image(1, SIZE), kind))
    assert not masks.is_of(cut_out, encoded(draw_image(2, SIZE), kind))
    assert not masks.is_of(cut_out, encoded(draw_image(1, SIZE[::-1]), kind))
    assert not masks.is_of(cut_out, b"no picture")
    empty = with_alpha(draw_image(1, SIZE), grey(9))
    assert not masks.is_of(encoded(empty), encoded(draw_image(1, SIZE), kind))


def test_soft_edges_stay():
    np.testing.assert_array_equal(masks.decode(encoded(grey(200, 30)), SIZE), grey(200, 30))


def test_a_palette_is_used_in_any_order():
    image = Image.fromarray((~FIGURE).astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    mask = masks.decode(encoded(image), SIZE)
    np.testing.assert_array_equal(np.asarray(mask) > masks.THRESHOLD, FIGURE)


@pytest.mark.parametrize(
    "image, reason",
    [
        (grey(0), "the mask is empty"),
        (grey(100), "the mask is empty"),
        (grey(255, 255), "the mask is full"),
        (grey(1, 1), "the mask is full"),
        (grey(255, 255).convert("1"), "the mask is full"),
        (with_alpha(draw_image(1, SIZE), Image.new("L", SIZE)), "the mask is empty"),
        (Image.new("L", (23, 37), 255), "the mask is of another size than the picture"),
        (Image.new("L", (370, 230), 255), "the mask is of another size than the picture"),
        (Image.fromarray(FIGURE.astype(np.float32)), "pixels are floating point numbers"),
        (grey(0, 255), "the figure has to be white, or opaque"),
        (with_alpha(draw_image(1, SIZE), grey(0, 255)), "the figure has to be white, or opaque"),
        (colours((255, 255, 255), (255, 0, 0)), "none of them is black"),
        (colours((68, 1, 84), (253, 231, 37)), "none of them is black"),
    ],
)
def test_what_tells_no_figure_is_a_fault_of_the_mask(image, reason):
    kind = "TIFF" if image.mode == "F" else "PNG"
    stored = images.prepare(encoded(draw_image(1, SIZE)), None, mask=encoded(image, kind))
    ((part, said, _),) = stored.faults
    assert part == "mask" and said.endswith(reason) and stored.mask is None


def fault_of(mask: np.ndarray | Image.Image, bbox: Box | None = None) -> str:
    """Returns the reason for which a mask of 96 x 128 pixels is left out, "" if it is not."""
    picture = encoded(draw_image(2, (96, 128)))
    mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    stored = images.prepare(picture, None, mask=encoded(mask), bbox=bbox)
    assert (stored.mask is None) == any(part == "mask" for part, *_ in stored.faults)
    return next((reason for part, reason, _ in stored.faults if part == "mask"), "")


def test_a_speck_is_no_figure_and_a_gap_no_background():
    values = np.zeros((128, 96), np.uint8)
    values[60:63, 50:54] = 255
    assert fault_of(values) == "the mask is empty"
    assert fault_of(255 - values) == "the mask is full"


def test_the_picture_itself_is_no_mask():
    assert fault_of(draw_image(2, (96, 128))) == "the mask is a picture in colours"


def test_grey_labels_with_a_white_border_are_no_figure():
    """As in PASCAL's raw classes: 15 is a person, 255 what is not decided."""
    values = np.zeros((128, 96), np.uint8)
    values[18:128, 23:72] = 255
    values[20:126, 25:70] = 15
    assert fault_of(values) == "the mask has grey labels"


def test_a_mask_has_the_face_in_its_figure():
    face = (0.5, 0.25, 0.2, 0.2)
    body = np.zeros((128, 96), np.uint8)
    body[10:, 30:66] = 255
    assert fault_of(body, face) == ""
    assert fault_of(255 - body, face) == fault_of(body, (0.15, 0.25, 0.2, 0.2)) == masks.NO_FACE
    body[:60] = 0  # clothes alone
    assert (fault_of(body), fault_of(body, face)) == ("", masks.NO_FACE)


def test_figures_that_fill_most_of_a_picture_are_not_taken_for_inverted_ones():
    hair = np.full((128, 96), 255, np.uint8)
    hair[:40, :20] = 0  # a corner of background
    assert fault_of(hair) == ""
    hair[:40, :20], hair[60:66, 40:60] = 255, 0  # between arm and body
    assert fault_of(hair) == ""


def test_a_mask_that_is_full_without_its_letterbox_is_a_fault():
    square, mask = Image.new("RGB", (64, 64)), Image.new("L", (64, 64))
    square.paste(draw_image(1, (32, 64)), (16, 0))
    mask.paste(255, (16, 0, 48, 64))
    stored = images.prepare(encoded(square), None, mask=encoded(mask), original=(320, 640))
    assert [reason for _, reason, _ in stored.faults] == ["the mask is full"]


def test_a_mask_may_be_in_colours_of_print():
    grey = np.zeros((40, 30, 3), np.uint8)
    grey[10:30, 5:25, 0] = 255  # lightness; a and b are 0
    lab = encoded(Image.fromarray(grey, "LAB"), "TIFF")
    figure = np.asarray(masks.decode(lab, (30, 40))) > masks.THRESHOLD
    np.testing.assert_array_equal(figure, grey[..., 0] > 0)
