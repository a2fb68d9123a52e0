"""Folders of masks, and folders that only hold others, in the builder `folder`."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

from tests.helpers import retribooru_folder
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.folder import layout


def put(root: pathlib.Path, *names: str) -> None:
    """Draws a picture of its own for each name; where a folder is called masks, a mask."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = retribooru_folder.draw_image(number)
        if any("mask" in part.lower() for part in path.parts[len(root.parts) :]):
            image = Image.new("L", image.size)
            ImageDraw.Draw(image).ellipse((8, 8, 40, 70), fill=255)
        image.save(path)


def read(root: pathlib.Path) -> tuple[dict[str, tuple], dict[str, str]]:
    """Returns (id -> character, mask below root), (file -> reason), of everything."""
    records, faults = {}, {}
    for item in layout.read(root):
        if isinstance(item, Fault):
            assert item.part == "place"
            faults[item.file] = item.reason
        else:
            mask = layout.locate(root, item)[1]
            records[item.id] = item.character, mask and mask.relative_to(root).as_posix()
    return records, faults


def check_all_is_told(
    root: pathlib.Path, records: dict[str, tuple], faults: dict[str, str]
) -> None:
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert files == records.keys() | {mask for _, mask in records.values() if mask} | {
        name for name in faults if (root / name).is_file()
    }


LAYOUTS = {
    "a flat folder for all": ("ann/0.jpg", "masks/0.png"),
    "a flat folder for outfits": ("ann/suit/0.jpg", "ann/masks/0.png"),
    "a flat folder, other names": ("ann/0.jpg", "Mask/0_mask.png"),
    "endings behind endings": ("ann/0.jpg", "masks/0.jpg.png"),
    "images/ and masks/": ("images/ann/0.jpg", "masks/ann/0.png"),
    "images/ and masks/ of outfits": ("IMAGES/ann/suit/0.jpg", "masks/ann/suit/0.png"),
    "masks/ of a flat images/": ("images/ann/0.jpg", "masks/0.png"),
    "a character's": ("ann/images/0.jpg", "ann/masks/0.png"),
    "an outfit's": ("ann/suit/imgs/0.jpg", "ann/suit/masks/0.png"),
    "a character's, apart": ("ann/photos/0.jpg", "masks/ann/0.png"),
    "a folder of another name": ("ann/0.jpg", "sam_masks/ann/0.png"),
    "a flat folder of another name": ("ann/0.jpg", "Masks (1)/0.png"),
    "in train/": ("train/images/ann/0.jpg", "train/masks/ann/0.png"),
}


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS)
def test_masks_are_found_wherever_tools_put_them(tmp_path, names):
    put(tmp_path, *names)
    records, faults = read(tmp_path)
    assert records == {names[0]: ("ann", names[1])} and not faults


def test_a_flat_mask_of_two_pictures_is_of_none_and_named(tmp_path):
    put(
        tmp_path, "ann/0.jpg", "bob/0.jpg", "bob/1.jpg", "masks/0.png", "masks/1.png", "masks/7.png"
    )
    records, faults = read(tmp_path)
    assert records == {
        "ann/0.jpg": ("ann", None),
        "bob/0.jpg": ("bob", None),
        "bob/1.jpg": ("bob", "masks/1.png"),
    }
    assert faults == dict.fromkeys(("masks/0.png", "masks/7.png"), layout.NO_OWNER)


def test_masks_that_are_called_like_no_picture_are_named_and_no_pictures(tmp_path):
    put(tmp_path, "ann/0.jpg", "ann/suit/1.jpg", "masks/seg_0.png", "ann/masks/seg_1.png")
    records, faults = read(tmp_path)
    assert records.keys() == {"ann/0.jpg", "ann/suit/1.jpg"}
    assert faults == dict.fromkeys(("masks/seg_0.png", "ann/masks/seg_1.png"), layout.NO_OWNER)


def test_a_character_called_mask_is_one_and_told(tmp_path):
    put(tmp_path, "ann/0.jpg")
    for number, name in enumerate(("Mask/7.jpg", "Mask/suit/8.jpg")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        retribooru_folder.draw_image(10 + number).save(tmp_path / name)
    records, faults = read(tmp_path)
    assert {name: character for name, (character, _) in records.items()} == {
        "ann/0.jpg": "ann",
        "Mask/7.jpg": "Mask",
        "Mask/suit/8.jpg": "Mask",
    }
    assert faults == {"Mask": layout.CALLED_MASKS}


def test_an_outfit_may_have_a_mask_in_its_name(tmp_path):
    for number, name in enumerate(("ann/gas_mask/0.jpg", "mask girl/1.jpg")):
        (tmp_path / name).parent.mkdir(parents=True)
        retribooru_folder.draw_image(number).save(tmp_path / name)
    records, faults = read(tmp_path)
    assert records.keys() == {"ann/gas_mask/0.jpg", "mask girl/1.jpg"} and not faults


def test_what_macos_lays_beside_masks_tells_nothing_of_a_folder(tmp_path):
    put(tmp_path, "ann/0.jpg", "sam_masks/0.png")
    (tmp_path / "sam_masks" / "._0.png").write_bytes(b"\0\5\x16\7")
    records, faults = read(tmp_path)
    assert records == {"ann/0.jpg": ("ann", "sam_masks/0.png")} and not faults


def test_links_that_lead_nowhere_tell_nothing_of_a_folder(tmp_path):
    put(tmp_path, "ann/0.jpg")
    for name in ("masks/7.png", "sam_masks/8.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(tmp_path / "gone.png")
    records, faults = read(tmp_path)
    assert faults == {"masks": layout.CALLED_MASKS}
    assert records.keys() == {"ann/0.jpg", "masks/7.png", "sam_masks/8.png"}  # the build names them


def test_pictures_of_nobody_are_named(tmp_path):
    """`images/` and `masks/`, or pictures and `masks/`, without a folder for each character."""
    put(tmp_path, "0.jpg", "masks/0.png", "images/1.jpg", "masks/1.png", "images/1.txt/a.jpg")
    (tmp_path / "images" / "1.caption").write_text("smile")
    records, faults = read(tmp_path)
    assert records == {"images/1.txt/a.jpg": ("1.txt", None)}
    assert faults["0.jpg"] == faults["images/1.jpg"] == layout.NOT_TAKEN
    check_all_is_told(tmp_path, records, faults)


def test_a_build_of_pictures_of_nobody_stops_with_the_reason(tmp_path):
    put(tmp_path / "in", "images/0.jpg", "masks/0.png")
    builder = tfds.builder("folder", path=str(tmp_path / "in"), data_dir=tmp_path / "out")
    with pytest.raises(ValueError, match=r"no record to build from(.|\n)*CHARACTER/OUTFIT/"):
        builder.download_and_prepare()


def test_containers_hold_characters_and_are_none(tmp_path):
    names = ["train/ann/0.jpg", "train/ann/suit/1.jpg", "val/ann/2.jpg", "test/bob/images/3.jpg"]
    names += [
        "train/4.jpg",
        "images/cat/dress/deep/5.jpg",
        "images/cat/dress/6.jpg",
        "val/x/y/z/7.jpg",
    ]
    put(tmp_path, *names)
    records, faults = read(tmp_path)
    assert {name: character for name, (character, _) in records.items()} == {
        "train/ann/0.jpg": "ann",
        "train/ann/suit/1.jpg": "ann",
        "val/ann/2.jpg": "ann",
        "test/bob/images/3.jpg": "bob",
        "images/cat/dress/6.jpg": "cat",
    }
    assert faults.keys() == {names[4], names[5], names[7]}
    check_all_is_told(tmp_path, records, faults)


def test_without_train_a_character_may_be_called_val(tmp_path):
    put(tmp_path, "Val/suit/0.jpg", "ann/1.jpg")
    assert {c for c, _ in read(tmp_path)[0].values()} == {"Val", "ann"}


def test_pictures_in_images_of_a_character_show_no_outfit_together(tmp_path):
    put(tmp_path, "ann/images/0.jpg", "ann/images/1.jpg", "ann/suit/2.jpg", "ann/suit/3.jpg")
    records = [item for item in layout.read(tmp_path) if isinstance(item, Record)]
    assert {r.id: r.similar for r in records} == {
        "ann/images/0.jpg": (),
        "ann/images/1.jpg": (),
        "ann/suit/2.jpg": ("ann/suit/3.jpg",),
        "ann/suit/3.jpg": ("ann/suit/2.jpg",),
    }


def test_flat_masks_are_stored(tmp_path, capsys):
    put(tmp_path / "in", "ann/0.jpg", "ann/1.jpg", "masks/0.png")
    builder = tfds.builder("folder/384", path=str(tmp_path / "in"), data_dir=tmp_path / "out")
    builder.download_and_prepare()
    stored = {r["id"].decode(): r for s in builder.info.splits for r in builder.as_data_source(s)}
    assert {name: bool(r["has_mask"]) for name, r in stored.items()} == {
        "ann/0.jpg": True,
        "ann/1.jpg": False,
    }
    expected = np.asarray(Image.open(tmp_path / "in/masks/0.png"))
    np.testing.assert_array_equal(stored["ann/0.jpg"]["mask"][:, :, 0], expected)
    assert "All records are of one character, ann." in capsys.readouterr().out


@pytest.mark.parametrize("name", ["{}-masklabel.png", "masks/{}.png", "../masks/{}.png"])
@pytest.mark.parametrize("stems", [("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9")])
def test_masks_whose_letters_macos_took_apart_are_no_pictures(tmp_path, name, stems):
    image, mask = tmp_path / "ann" / f"{stems[0]}.jpg", tmp_path / "ann" / name.format(stems[1])
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
        retribooru_folder.draw_image(1).save(path)
    (record,) = layout.read(tmp_path)
    assert layout.locate(tmp_path, record)[1].samefile(mask)


@pytest.mark.parametrize(
    "name", ["mask_0.png", "0_mask_0.png", "0_mask_00001_.png", "0_matte.png", "0_masks.png"]
)
def test_masks_of_other_names_beside_pictures_are_named_and_no_pictures(tmp_path, name):
    for number, picture in enumerate(("0", "masked_ball", "mask_1")):  # two are of a carnival
        (tmp_path / "ann").mkdir(exist_ok=True)
        retribooru_folder.draw_image(number).save(tmp_path / f"ann/{picture}.jpg")
    mask = Image.new("L", (60, 80))
    ImageDraw.Draw(mask).ellipse((8, 8, 40, 70), fill=255)
    mask.save(tmp_path / "ann" / name)
    cut_out = retribooru_folder.draw_image(7, mask.size)
    cut_out.putalpha(mask)
    cut_out.save(tmp_path / "ann" / "1_alpha.png")
    records, faults = read(tmp_path)
    pictures = ("0.jpg", "mask_1.jpg", "masked_ball.jpg", "1_alpha.png")
    assert records == {f"ann/{k}": ("ann", None) for k in pictures} and faults == {
        f"ann/{name}": layout.LIKE_MASK
    }


@pytest.mark.parametrize("folder", ["SegmentationClass", "gt"])
def test_folders_of_labels_are_no_characters(tmp_path, folder):
    put(tmp_path, "JPEGImages/ann/0.jpg")
    labels = Image.new("RGB", (60, 80))
    ImageDraw.Draw(labels).ellipse((8, 8, 40, 70), fill=(250, 50, 50))
    (tmp_path / folder / "ann").mkdir(parents=True)
    labels.save(tmp_path / folder / "ann" / "0.png")
    records, faults = read(tmp_path)
    assert records == {"JPEGImages/ann/0.jpg": ("ann", f"{folder}/ann/0.png")} and not faults


FIGURE = Image.new("L", (48, 64))
ImageDraw.Draw(FIGURE).ellipse((10, 5, 38, 60), fill=255)


def put_cut_out(path: pathlib.Path, seed: int) -> None:
    """Writes a figure on nothing, as novels' sprites are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = retribooru_folder.draw_image(seed)
    image.putalpha(FIGURE)
    image.save(path)


@pytest.mark.parametrize("folder", ["ann/gas mask", "ann/no_mask", "DragonBall GT", "ann/Mask"])
def test_sprites_in_a_folder_that_is_called_like_one_of_masks_are_pictures(tmp_path, folder):
    names = [f"{place}/{k}.png" for place in ("ann/casual", folder) for k in range(3)]
    for number, name in enumerate(names):
        put_cut_out(tmp_path / name, number)
    records, faults = read(tmp_path)
    assert records == {name: (name.split("/")[0], None) for name in names}
    assert faults == ({folder: layout.CALLED_MASKS} if folder == "ann/Mask" else {})


@pytest.mark.parametrize(
    "name", ["ann/0_mask.png", "masks/0.png", "ann/Alpha/0.png", "sam_masks/ann/0_mask.png"]
)
def test_a_mask_may_be_cut_out_of_its_picture(tmp_path, name):
    put(tmp_path, "ann/0.jpg", "ann/1.jpg")
    put_cut_out(tmp_path / name, 0)
    records, faults = read(tmp_path)
    assert records == {"ann/0.jpg": ("ann", name), "ann/1.jpg": ("ann", None)} and not faults


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_who_wears_a_mask_is_on_a_picture_of_its_own(tmp_path, ending):
    for number, name in enumerate(("kakashi", "kakashi_mask", "kakashi-mask")):
        path = tmp_path / "ann" / f"{name}.{ending}"
        if ending == "png":
            put_cut_out(path, number)
        else:
            path.parent.mkdir(exist_ok=True)
            retribooru_folder.draw_image(number).save(path)
    records, faults = read(tmp_path)
    assert len(records) == 3 and not faults
    assert {mask for _, mask in records.values()} == {None}


def test_a_sprite_that_differs_in_little_is_no_mask(tmp_path):
    for name, colour in (("kakashi.png", None), ("kakashi_mask.png", (30, 40, 90))):
        put_cut_out(tmp_path / "ann" / name, 1)
        if colour:
            image = Image.open(tmp_path / "ann" / name)
            image.paste(colour, (18, 24, 30, 32))
            image.save(tmp_path / "ann" / name)
    assert read(tmp_path) == ({f"ann/kakashi{k}.png": ("ann", None) for k in ("", "_mask")}, {})


def test_photos_in_a_folder_mask_are_an_outfit_whatever_their_names(tmp_path):
    names = [f"ann/{outfit}/{k}.png" for outfit in ("casual", "mask") for k in range(4)]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        retribooru_folder.draw_image(number).save(tmp_path / name)
    records, faults = read(tmp_path)
    assert records == dict.fromkeys(names, ("ann", None))
    assert faults == {"ann/mask": layout.CALLED_MASKS}


def test_a_few_bad_files_in_a_folder_of_masks_stay_masks(tmp_path):
    names = [f"ann/{k}.jpg" for k in range(20)]
    put(tmp_path, *names, *(f"masks/{k}.png" for k in range(20)))
    for k in (0, 10, 19):
        retribooru_folder.draw_image(50 + k).save(tmp_path / f"masks/{k}.png")
    put_cut_out(tmp_path / "masks/5.png", 70)  # of nothing here: its outline would be wrong
    records, faults = read(tmp_path)
    expected = {f"ann/{k}.jpg": ("ann", f"masks/{k}.png") for k in range(20)}
    assert records == expected | {"ann/5.jpg": ("ann", None)}
    assert faults == {"masks/5.png": layout.NO_OWNER}


@pytest.mark.parametrize("colour", [100, (68, 1, 84)])
@pytest.mark.parametrize("name", ["masks/0.png", "ann/0_mask.png"])
def test_bad_masks_are_masks_so_that_the_build_names_them(tmp_path, name, colour):
    put(tmp_path, "ann/0.jpg")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    bad = Image.new("L" if colour == 100 else "RGB", (48, 64), colour)
    bad.paste(200 if colour == 100 else (253, 231, 37), mask=FIGURE)
    bad.save(tmp_path / name)
    assert read(tmp_path) == ({"ann/0.jpg": ("ann", name)}, {})


def outfits(root: pathlib.Path) -> dict[str, set[str]]:
    """Returns character -> ids of those of its pictures that are in an outfit with others."""
    found: dict[str, set[str]] = {}
    for item in layout.read(root):
        assert isinstance(item, Record)
        found.setdefault(item.character, set()).update({item.id} if item.similar else ())
    return found


@pytest.mark.parametrize("outfit", ["training", "Train", "test", "val"])
def test_an_outfit_may_be_called_training(tmp_path, outfit):
    names = [f"ann/{place}/{k}.jpg" for place in ("casual", outfit) for k in range(2)]
    put(tmp_path, *names)
    assert outfits(tmp_path) == {"ann": set(names)}


def test_splits_of_a_character_are_no_outfits(tmp_path):
    places = ("ann/training", "ann/test/suit")
    put(tmp_path, *(f"{place}/{k}.jpg" for place in places for k in range(2)))
    assert outfits(tmp_path) == {"ann": {"ann/test/suit/0.jpg", "ann/test/suit/1.jpg"}}


@pytest.mark.parametrize(
    "beside, characters",
    [
        ("bob/1.jpg", {"Training", "bob"}),
        ("bob/suit/1.jpg", {"Training", "bob"}),
        ("masks/ann/0.png", {"ann"}),
        ("sam_masks/ann/0.png", {"ann"}),
        ("notes/readme.md", {"ann"}),
        ("valid/bob/1.jpg", {"ann", "bob"}),
        ("reg/1_girl/1.jpg", {"ann"}),
    ],
)
def test_training_holds_characters_unless_some_stand_beside_it(tmp_path, beside, characters):
    put(tmp_path, "Training/ann/0.jpg")
    if beside.endswith(".md"):
        (tmp_path / beside).parent.mkdir()
        (tmp_path / beside).touch()
    else:
        put(tmp_path, beside)
    assert {character for character, _ in read(tmp_path)[0].values()} == characters


def test_training_holds_characters_if_it_holds_several_and_no_picture(tmp_path):
    put(tmp_path, "training/ann/0.jpg", "training/bob/0.jpg", "refs/x/1.jpg")
    assert {character for character, _ in read(tmp_path)[0].values()} == {"ann", "bob", "refs"}


def test_train_holds_characters_whoever_stands_beside_it(tmp_path):
    put(tmp_path, "train/ann/0.jpg", "bob/1.jpg")
    assert {character for character, _ in read(tmp_path)[0].values()} == {"ann", "bob"}
