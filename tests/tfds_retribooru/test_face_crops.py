"""Small faces and clothes are kept as before the picture was shrunk; older data sets are read."""

import io
import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rbjax.data import crops, dataset, images
from rbjax.data.image_cache import ConceptCrops
from rbjax.text.concepts import CLOTHES, FACE
from tests.helpers import retribooru_folder
from tfds_retribooru import boxes, close_ups
from tfds_retribooru import images as images_lib
from tfds_retribooru.boxes import PixelBox

ARCHIVE = pathlib.Path(__file__).parents[1] / "compatibility" / "version_0_1.tar.xz"
BOX = [0.45, 0.25, 0.2, 0.12]
FIGURE = (450, 300, 900, 1200)  # of 1500 x 2000 pixels; below the face are rows 620 to 1199
MASKED = 3  # large pictures with a mask


def drawing(seed: int, size=(1500, 2000)) -> Image.Image:
    return retribooru_folder.draw_detailed(seed, size)


def face_of(image: Image.Image, stored=(384, 512), bbox=BOX) -> close_ups.CloseUp | None:
    return close_ups.cut(image, tuple(bbox), stored)


def test_a_small_face_has_the_pixels_of_the_original():
    image = drawing(0)
    found = face_of(image)
    part = Image.open(io.BytesIO(found.data))
    x, y, w, h = found.frame
    left, top = round((x - w / 2) * 1500), round((y - h / 2) * 2000)
    assert part.size == (round(w * 1500), round(h * 2000)) == (390, 312)
    expected = np.asarray(image.crop((left, top, left + 390, top + 312)), int)
    assert np.abs(np.asarray(part) - expected).mean() < 4
    assert (w, h) == pytest.approx((0.2 * 1.3, 0.12 * 1.3), abs=1e-3)


def test_a_face_is_kept_no_larger_than_it_is_shown():
    image = drawing(0, (3000, 4000))
    part = Image.open(io.BytesIO(face_of(image).data))
    assert max(part.size) == round(384 * 1.3)


@pytest.mark.parametrize(
    "size, stored, bbox",
    [
        ((384, 512), (384, 512), BOX),  # not shrunk
        ((460, 613), (384, 512), BOX),  # hardly
        ((1500, 2000), (384, 512), [0.5, 0.5, 0.9, 0.8]),  # large already
    ],
)
def test_where_it_does_not_pay_no_face_is_kept(size, stored, bbox):
    assert face_of(drawing(0, size), stored, bbox) is None


def test_a_face_at_the_edge_keeps_what_is_there():
    x, y, w, h = face_of(drawing(0), bbox=[0.1, 0.06, 0.2, 0.12]).frame
    assert (x - w / 2, y - h / 2) == pytest.approx((0, 0), abs=1e-3)
    assert (x + w / 2, y + h / 2) == pytest.approx((0.23, 0.138), abs=1e-3)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Six large pictures, one without a box, some with a mask, and six small ones."""
    data_dir = tmp_path_factory.mktemp("faces")
    root = data_dir / "downloads" / "manual" / "retribooru"
    made = [record | {"bbox": BOX} for record in retribooru_folder.records(2)]
    made[5]["bbox"] = None
    retribooru_folder.write(root, made)
    for k, record in enumerate(made[:6]):
        drawing(k).save(root / "images" / f"{record['id']}.png", compress_level=1)
        (root / "masks" / f"{record['id']}.png").unlink()
        if k < MASKED:
            mask = Image.new("L", (1500, 2000))
            mask.paste(255, FIGURE)
            mask.save(root / "masks" / f"{record['id']}.png")
    builder = tfds.builder("retribooru/384", data_dir=data_dir)
    builder.download_and_prepare()
    return builder, made


def test_faces_are_cropped_from_the_original(built):
    builder, made = built
    split = dataset.open_split(builder, "train")
    ids = [record["id"].decode() for record in split.records]
    known = [record["id"] for record in made]
    shown = 0
    for i, name in enumerate(ids):
        number = known.index(name)
        if number >= 5 or made[number]["bbox"] is None:
            continue
        image = drawing(number)
        box = PixelBox(525, 380, 825, 620)
        expected = crops.crop_box(image, box, size=256, view="crop").astype(int)
        small = crops.crop_box(
            images_lib.shrink(image, 384), PixelBox(134, 97, 211, 159), size=256, view="crop"
        )
        direct, cached = (
            ConceptCrops(split, size=256, view="crop", cache=cache) for cache in (False, True)
        )
        found = direct[i, FACE]
        error, before = (np.abs(a - expected).mean() for a in (found, small.astype(int)))
        assert error < 4 < before and error < before / 3
        for change in (crops.Change(0.1, 0.1, 0.1, -0.2, True), crops.Change(left=0.4)):
            crop = direct.crop(i, FACE, change)
            np.testing.assert_array_equal(crop, cached.crop(i, FACE, change))
            assert crop.shape == (256, 256, 3)
        np.testing.assert_array_equal(found, cached[i, FACE])
        np.testing.assert_array_equal(direct[i, CLOTHES], cached[i, CLOTHES])
        shown += 1
    assert shown == 5


def masked(built) -> list[tuple[dataset.Split, int, Image.Image]]:
    """Split, position and original of the large pictures with a mask."""
    builder, made = built
    split = dataset.open_split(builder, "train")
    ids = [record["id"].decode() for record in split.records]
    return [(split, ids.index(made[k]["id"]), drawing(k)) for k in range(MASKED)]


def test_clothes_of_a_small_figure_are_cropped_from_the_original(built):
    for split, i, image in masked(built):
        record = split.records[i]
        shape = record["image"].shape[:2]
        place = crops.concept_box(record["bbox"], record["mask"], concept=CLOTHES, shape=shape)
        relative = boxes.to_relative(place, width=shape[1], height=shape[0])
        box = boxes.to_pixels(relative, width=1500, height=2000)
        assert np.abs(np.subtract(box, (450, 620, 900, 1200))).max() <= 4  # a stored pixel
        expected = crops.crop_box(image, box, size=256, view="crop")
        without = {name: v for name, v in record.items() if name != "clothes_frame"}
        before = crops.crop_concept(without, CLOTHES, size=256, view="crop")
        direct, cached = (
            ConceptCrops(split, size=256, view="crop", cache=cache) for cache in (False, True)
        )
        found = direct[i, CLOTHES]
        errors = [np.abs(a.astype(int) - expected).mean() for a in (found, before)]
        assert errors[0] < 0.6 * errors[1] and errors[0] < 4, errors
        for change in (crops.Change(0.1, 0.1, 0.1, -0.2, True, True), crops.Change(left=0.4)):
            crop = direct.crop(i, CLOTHES, change)
            np.testing.assert_array_equal(crop, cached.crop(i, CLOTHES, change))
        np.testing.assert_array_equal(found, cached[i, CLOTHES])
        np.testing.assert_array_equal(
            direct.crop(i, CLOTHES, crops.Change(left=0.4)),
            crops.crop_concept(
                without, CLOTHES, size=256, view="crop", change=crops.Change(left=0.4)
            ),
        )


def test_clothes_in_more_pixels_lose_their_background_too(built):
    split, i, _ = masked(built)[0]
    wide = crops.Change(0.1, 0.1, 0.1, 0.1, blank=True)
    crop = crops.crop_concept(split.records[i], CLOTHES, size=240, view="crop", change=wide)
    is_white = (crop == 255).all(axis=2)
    # 540 x 696 pixels of the original fit 186 x 240: the figure is 155 wide, without row margins
    assert is_white[:, :38].all() and is_white[:, 202:].all() and is_white[225:].all()
    assert is_white[25:210, 50:190].mean() < 0.1


def test_figures_without_a_mask_keep_no_clothes(built):
    split, _, _ = masked(built)[0]
    kept = [bool(record["clothes_frame"].any()) for record in split.records]
    assert sum(kept) == MASKED


def test_a_data_set_without_clothes_in_more_pixels_is_read(built, tmp_path, monkeypatch, capsys):
    shutil.copytree(built[0].data_path.parents[2] / "downloads", tmp_path / "downloads")
    with monkeypatch.context() as patch:  # as 1.1.0 was
        builder = tfds.builder_cls("retribooru")
        patch.setattr(builder, "VERSION", tfds.core.Version("1.1.0"))
        patch.setattr(builder, "SUPPORTED_VERSIONS", [])
        tfds.builder("retribooru/384", data_dir=tmp_path).download_and_prepare()
    capsys.readouterr()
    again = tfds.builder("retribooru/384", data_dir=tmp_path)
    again.download_and_prepare()
    assert "1.1.0 is used, of version 1.1.0. News of 1.2.0: Clothes" in capsys.readouterr().out
    split = dataset.open_split(again, "train")
    assert "face" in split.records[0] and "clothes" not in split.records[0]
    for cache in (False, True):
        crop = ConceptCrops(split, size=64, view="crop", cache=cache)[0, CLOTHES]
        assert crop.shape == (64, 64, 3)


def test_an_edge_beyond_what_is_kept_is_cut_from_the_stored_picture(built):
    split = dataset.open_split(built[0], "train")
    i = next(i for i, r in enumerate(split.records) if r["face_frame"].any())
    plain = {k: v for k, v in split.records[i].items() if k != "face_frame"}
    for change, is_kept in ((crops.Change(left=0.14), True), (crops.Change(left=0.2), False)):
        options = {"size": 64, "view": "crop", "change": change}
        with_face = crops.crop_concept(split.records[i], FACE, **options)
        without = crops.crop_concept(plain, FACE, **options)
        assert (with_face == without).all() == (not is_kept)
        assert np.abs(with_face.astype(int) - without).mean() < 40


def test_a_build_of_an_older_version_is_used_and_told(built, tmp_path, capsys):
    builder, _ = built
    manual = tmp_path / "downloads" / "manual"
    shutil.copytree(builder.data_path.parents[2] / "downloads" / "manual", manual)
    with tarfile.open(ARCHIVE) as archive:  # the data of version 0.1
        members = [m for m in archive.getmembers() if m.name.startswith("data/retribooru")]
        archive.extractall(tmp_path, members, filter="data")
    shutil.move(tmp_path / "data" / "retribooru", tmp_path / "retribooru")
    capsys.readouterr()
    again = tfds.builder("retribooru/384", data_dir=tmp_path)
    again.download_and_prepare()
    assert str(again.version) == "1.0.0" and again.data_path.name == "1.0.0"
    said = capsys.readouterr().out
    assert "1.0.0 is used, of version 1.0.0. News of 1.2.0: Clothes of small" in said
    assert "tfds.builder('\"'\"'retribooru/384:1.2.0'\"'\"', data_dir=" in said
    split = dataset.open_split(again, "train")
    assert "face" not in split.records[0]
    assert "face" not in json.loads((again.data_path / "features.json").read_text())["featuresDict"]
    crop = ConceptCrops(split, size=64, view="crop", cache=True)[0, FACE]
    assert crop.shape == (64, 64, 3) and np.ptp(images.to_pillow(crop)) > 0
    tfds.builder("retribooru/384:1.2.0", data_dir=tmp_path).download_and_prepare()
    assert str(tfds.builder("retribooru/384", data_dir=tmp_path).version) == "1.2.0"
