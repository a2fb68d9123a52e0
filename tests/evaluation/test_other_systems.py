"""Images of other systems: of a suite's cases, and of any."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from rbjax.data import dataset
from rbjax.evaluation import manifest, other_systems, suite
from rbjax.text.concepts import CLOTHES, FACE

SIZE = 16


@pytest.fixture(scope="module")
def split(avatars):
    return dataset.open_split(avatars, "test")


@pytest.fixture(scope="module")
def cases(split):
    return suite.build(
        split.clusters, split.tags, split.vocabulary, characters=2, faces=1, clothes=1
    )


@pytest.fixture
def read_record(split):
    return split.crop_records[CLOTHES].__getitem__


@pytest.fixture
def folder(tmp_path, cases, read_record):
    other_systems.write_cases(tmp_path / "cases", cases, "test", read_record)
    return tmp_path / "cases"


def fill(folder, count=100):
    for number, entry in enumerate(manifest.read(folder)[:count]):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(folder / entry.image)


def read(folder, cases, read_record):
    return other_systems.read_system(folder, cases, "test", size=SIZE, read_record=read_record)


def rewrite(folder, change):
    path = folder / manifest.NAME
    items = [json.loads(line) for line in path.read_text().splitlines()]
    change(items)
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def test_cases_are_written_with_their_references(folder, cases, split):
    entries = manifest.read(folder)
    assert [entry.prompt for entry in entries] == [case.prompt for case in cases.cases]
    assert [entry.seed for entry in entries] == [case.seed for case in cases.cases]
    for entry, case in zip(entries, cases.cases, strict=True):
        assert tuple(r.concept for r in entry.references) == case.concepts == (FACE, CLOTHES)
        for reference, position in zip(entry.references, case.references, strict=True):
            image = np.asarray(Image.open(folder / reference.image))
            np.testing.assert_array_equal(image, split.records[position]["image"])
            left, top, width, height = reference.box
            assert left + width <= image.shape[1] and top + height <= image.shape[0]


def test_filled_cases_are_read_in_the_suites_order(folder, cases, read_record):
    fill(folder)
    rewrite(folder, lambda items: items.reverse())
    system = read(folder, cases, read_record)
    assert system.cases == cases.cases and not system.faults
    red = np.round((system.images[:, 0, 0, 0] + 1) * 127.5)
    assert red.tolist() == list(range(len(cases.cases)))


def test_what_is_missing_is_counted_not_dropped(folder, cases, read_record):
    fill(folder)
    rewrite(folder, lambda items: items.pop(2))
    (folder / "images" / "test-00004.png").write_bytes(b"no image")
    (folder / "images" / "test-00005.png").unlink()
    system = read(folder, cases, read_record)
    assert len(system.images) == len(cases.cases)
    assert system.faults == {2: manifest.MISSING, 4: manifest.UNREADABLE, 5: manifest.MISSING}
    assert np.isnan(system.images[[2, 4, 5]]).all()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda items: items[1].update(prompt="smile"), "'test-00001': its prompt is not that"),
        (lambda items: items[1].update(seed=1), "'test-00001': its seed is not that"),
        (lambda items: items[1]["references"].pop(), "'test-00001': its references is not that"),
        (lambda items: items[1].update(id="mine"), "'mine' and 0 other entries are none of"),
    ],
)
def test_entries_of_other_cases_are_refused(folder, cases, read_record, change, message):
    fill(folder)
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        read(folder, cases, read_record)


def test_a_folder_that_holds_something_is_not_written_to(folder, cases, read_record):
    with pytest.raises(FileExistsError, match="is not empty"):
        other_systems.write_cases(folder, cases, "test", read_record)


def foreign_folder(path, entries, images):
    path.mkdir()
    for name, colour in images.items():
        Image.new("RGB", (30, 40), colour).save(path / name)
    manifest.write(path, entries)
    return path


def test_folders_of_any_cases_become_one_suite(tmp_path):
    reference = manifest.Reference("r.png", FACE, (1, 1, 9, 9), ("red hair",))
    entries = [
        manifest.Entry("a", "a.png", (reference,), ("smile",), 1, target="t.png"),
        manifest.Entry("b", "b.png", (reference,), ("smile",), 2),
        manifest.Entry("c", "c.png", (manifest.Reference("s.png", CLOTHES),), (), 1),
    ]
    images = {"a.png": "red", "r.png": "blue", "s.png": "green", "t.png": "white"}
    first = foreign_folder(tmp_path / "one", entries, images)
    second = foreign_folder(tmp_path / "two", entries[:1], images)
    found = other_systems.read_foreign({"one": first, "two": second}, SIZE)
    assert {name: len(system.cases) for name, system in found.systems.items()} == {
        "one": 3,
        "two": 1,
    }
    a, b, c = found.systems["one"].cases
    assert a.character == b.character != c.character  # the same references
    assert found.suite.tags[a.references[0]] == ("red hair",)
    assert found.suite.tags[c.references[0]] == ()
    assert found.systems["one"].faults == {1: manifest.MISSING, 2: manifest.MISSING}
    read = found.read_images([*a.references, a.real])
    assert read.shape == (2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(read[0, 8, 8], [-1, -1, 1])
    assert other_systems.size_of([first]) == 40


def test_files_are_known_by_their_content_in_every_folder_and_order(tmp_path):
    face, clothes = manifest.Reference("r.png", FACE), manifest.Reference("s.png", CLOTHES)
    entries = [
        manifest.Entry("a", "a.png", (face, clothes), ("smile",), 1),
        manifest.Entry("b", "b.png", (clothes,), ("smile",), 1),
    ]
    images = {"a.png": "red", "b.png": "red", "r.png": "blue", "s.png": "green"}
    folders = {
        "one": foreign_folder(tmp_path / "one", entries, images),
        "two": foreign_folder(tmp_path / "two", entries[::-1], images),
    }
    found = other_systems.read_foreign(folders, SIZE)
    one, two = (system.cases for system in found.systems.values())
    assert one == two[::-1] and len(found.files) == 2
    alone = other_systems.read_foreign({"two": folders["two"]}, SIZE)
    assert set(alone.digests) == set(found.digests) and alone.digests != found.digests


def test_two_boxes_of_one_file_are_two_references(tmp_path):
    boxes = ((0, 0, 10, 10), (20, 0, 10, 10))
    entries = [
        manifest.Entry(name, "a.png", (manifest.Reference("r.png", FACE, box),), (), 1)
        for name, box in zip("ab", boxes, strict=True)
    ]
    folder = foreign_folder(tmp_path / "one", entries, {"a.png": "red", "r.png": "blue"})
    found = other_systems.read_foreign({"one": folder}, SIZE)
    a, b = found.systems["one"].cases
    assert a.references != b.references and a.character != b.character
    left = [found.region(case.references[0], FACE).left for case in (a, b)]
    assert left[0] < left[1]


@pytest.mark.parametrize("past", [(1, 0), (0, 1)])
def test_a_box_outside_of_its_image_is_refused(tmp_path, past):
    reference = manifest.Reference("r.png", FACE, (0, 0, 10, 10))
    entry = manifest.Entry("a", "a.png", (reference,), (), 1)
    folder = foreign_folder(tmp_path / "one", [entry], {"a.png": "red", "r.png": "blue"})
    width, height = Image.open(folder / "r.png").size
    for grown, is_inside in (((0, 0), True), (past, False)):
        box = (3, 4, width - 3 + grown[0], height - 4 + grown[1])
        changed = dataclasses.replace(entry, references=(dataclasses.replace(reference, box=box),))
        manifest.write(folder, [changed])
        if is_inside:
            other_systems.read_foreign({"one": folder}, SIZE)
        else:
            with pytest.raises(ValueError, match=r"box \[3, 4, .*r.png is not inside its image"):
                other_systems.read_foreign({"one": folder}, SIZE)


def test_other_seeds_of_a_case_are_its_repeats(tmp_path):
    asked = [("a", "smile", 1), ("b", "frown", 1), ("a", "smile", 7), ("a", "smile", 3)]
    reference = manifest.Reference("r.png", FACE)
    entries = [
        manifest.Entry(f"{number}", "a.png", (reference,), (prompt,), seed, character=character)
        for number, (character, prompt, seed) in enumerate(asked)
    ] + [manifest.Entry(f"open {seed}", "a.png", (reference,), (), seed, "a") for seed in (1, 2)]
    folder = foreign_folder(tmp_path / "one", entries, {"a.png": "red", "r.png": "blue"})
    cases = other_systems.read_foreign({"one": folder}, SIZE).systems["one"].cases
    assert [case.repeat for case in cases] == [0, 0, 1, 2, 0, 0]


def test_a_reference_that_cannot_be_read_is_named(tmp_path):
    entry = manifest.Entry("a", "a.png", (manifest.Reference("r.png", FACE),), (), 1)
    folder = foreign_folder(tmp_path / "one", [entry], {"a.png": "red"})
    found = other_systems.read_foreign({"one": folder}, SIZE)
    with pytest.raises(ValueError, match=r"one/r.png, which a manifest names as reference"):
        found.read_images([0])
    (folder / "a.png").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="none of the images"):
        other_systems.size_of([folder])


def test_entries_are_named_after_the_suite(cases, read_record):
    made = other_systems.entries(cases, "validation", read_record)
    assert made[3].id == "validation-00003"
    assert dataclasses.asdict(made[0])["image"] == "images/validation-00000.png"


def test_the_size_is_that_of_most_images_and_of_the_largest_of_as_many(tmp_path):
    folders = []
    for number, sides in enumerate([(20, 50, 50, 40), (40, 50, 600), (600, 600)]):
        entries = [
            manifest.Entry(f"{i}", f"{i}.png", (manifest.Reference("0.png", FACE),), (), i)
            for i in range(len(sides))
        ]
        folders.append(foreign_folder(tmp_path / f"{number}", entries, {}))
        for i, side in enumerate(sides):
            Image.new("RGB", (side - 10, side)).save(folders[-1] / f"{i}.png")
    assert other_systems.size_of(folders[:1]) == other_systems.size_of(folders[:2]) == 50
    assert other_systems.size_of(folders) == other_systems.MAX_SIZE


def test_a_name_that_no_file_can_have_is_of_no_image(tmp_path):
    long = manifest.Reference("r" * 300, FACE)
    entries = [manifest.Entry(n, f"{n}.png", (long,), (), 1) for n in ("a", "b" * 300)]
    folder = foreign_folder(tmp_path / "one", entries, {"a.png": "red"})
    assert other_systems.size_of([folder]) == 40
    found = other_systems.read_foreign({"one": folder}, SIZE)
    assert found.systems["one"].faults == {1: manifest.UNREADABLE}
