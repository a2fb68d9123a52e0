"""Links between folders, as people lay them: elsewhere, nowhere, in circles."""

import pytest

from tests.helpers import retribooru_folder
from tfds_retribooru import walking
from tfds_retribooru.building.records import Record
from tfds_retribooru.folder import layout as folder_layout
from tfds_retribooru.retribooru import layout


def test_each_folder_is_walked_once_through_links(tmp_path):
    (tmp_path / "root" / "b").mkdir(parents=True)
    (tmp_path / "root" / ".hidden").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").touch()
    (tmp_path / "elsewhere" / "._1.jpg").touch()
    (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "b" / "loop").symlink_to("loop")
    root = tmp_path / "root"
    found = list(walking.walk(root))
    assert found == [(root, []), (root / "a", ["1.jpg"]), (root / "b", ["loop"])]
    assert walking.subfolders(root) == [root / "a", root / "b", root / "c"]


def test_pictures_are_found_in_folders_that_are_links(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "danbooru_11_ab.png").touch()
    (tmp_path / "images" / "set").symlink_to(tmp_path / "disk")
    found = layout.find_image(tmp_path / "images", "11")
    assert found == tmp_path / "images" / "set" / "danbooru_11_ab.png"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("loop", "loop"),
        ("ann/loop.txt", "loop.txt"),
        ("images", "."),
        ("ann/self", ".."),
        ("ann/images", "../.."),
        ("masks", "."),
    ],
)
def test_links_in_circles_end_nothing(tmp_path, name, target):
    (tmp_path / "ann").mkdir()
    retribooru_folder.draw_image(1).save(tmp_path / "ann" / "0.png")
    (tmp_path / name).symlink_to(target)
    records = [r for r in folder_layout.read(tmp_path) if isinstance(r, Record)]
    assert [(r.id, r.character) for r in records] == [("ann/0.png", "ann")]
    assert folder_layout.locate(tmp_path, records[0])[1] is None
