"""Masks as people save them."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.retribooru_folder import draw_image, encoded
from tfds_retribooru import images, masks

SIZE = (37, 23)  # width, height
FIGURE = np.zeros(SIZE[::-1], bool)
FIGURE[5:20, 9:30] = True


def grey(inside: int, outside=0, dtype=np.uint8) -> Image.Image:
    return Image.fromarray(np.where(FIGURE, inside, outside).astype(dtype))


def palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(FIGURE.astype(np.uint8)).convert("P")
    image.putpalette(colours)
    return image


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
    "cut-out": with_alpha(draw_image(1, SIZE), grey(255)),
    "black on nothing": with_alpha(Image.new("L", SIZE), grey(255)),
    "white on nothing": with_alpha(Image.new("L", SIZE, 255), grey(255)),
    "grey and opaque": with_alpha(grey(255), Image.new("L", SIZE, 255)),
    "CMYK": grey(255).convert("RGB").convert("CMYK"),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_figure_is_found(name):
    kind = "TIFF" if name == "CMYK" else "PNG"
    mask = masks.decode(encoded(MASKS[name], kind), SIZE)
    assert mask.mode == "L"
    np.testing.assert_array_equal(np.asarray(mask) > masks.THRESHOLD, FIGURE)


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
    ],
)
def test_what_tells_no_figure_is_a_fault_of_the_mask(image, reason):
    kind = "TIFF" if image.mode == "F" else "PNG"
    stored = images.prepare(encoded(draw_image(1, SIZE)), None, mask=encoded(image, kind))
    ((part, said, _),) = stored.faults
    assert part == "mask" and said.endswith(reason) and stored.mask is None


def test_a_mask_that_is_full_without_its_letterbox_is_a_fault():
    square, mask = Image.new("RGB", (64, 64)), Image.new("L", (64, 64))
    square.paste(draw_image(1, (32, 64)), (16, 0))
    mask.paste(255, (16, 0, 48, 64))
    stored = images.prepare(encoded(square), None, mask=encoded(mask), original=(320, 640))
    assert [reason for _, reason, _ in stored.faults] == ["the mask is full"]
