"""The collection on one machine, from the files of a small dump to annotations."""

import importlib.metadata
import importlib.util
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests.helpers import danbooru_dump
from tfds_retribooru import images as images_lib
from tfds_retribooru import variants
from tfds_retribooru.building import locks
from tfds_retribooru.collect import __main__ as command
from tfds_retribooru.collect import image_models, outcome, run_local
from tfds_retribooru.collect.outcome import CollectionFailed
from tfds_retribooru.collect.outfits import QUESTIONS
from tfds_retribooru.collect.settings import Settings
from tfds_retribooru.retribooru import layout


@pytest.fixture
def metadata(tmp_path):
    return tuple(danbooru_dump.write_metadata(tmp_path / "meta"))


@pytest.fixture
def images(tmp_path, avatars):
    folder = tmp_path / "images"
    danbooru_dump.write_images(folder, avatars.as_data_source("test"))
    return folder


def similar(found: dict[str, dict]) -> dict[str, list[str]]:
    return {name: record["similar"] for name, record in found.items()}


def test_every_post_is_collected_or_listed_with_its_reason(metadata, tmp_path):
    counts = run_local.collect(Settings(metadata, tmp_path / "annotations"))
    found, dropped = danbooru_dump.read(tmp_path / "annotations")
    assert similar(found) == danbooru_dump.EXPECTED_KEPT
    assert dropped == sorted(danbooru_dump.EXPECTED_DROPPED)
    assert counts["kept"] == 6 and counts["no_partner"] == 1
    assert sum(counts.values()) == 6 + len(dropped)


def test_an_annotation_is_as_the_papers_figure_shows(metadata, tmp_path):
    run_local.collect(Settings(metadata, tmp_path / "annotations"))
    found, _ = danbooru_dump.read(tmp_path / "annotations")
    assert found["1001"] == {
        "id": "1001",
        "character": "sendai",
        "artists": "artist",
        "bbox": None,
        "cloths": ["serafuku", "pleated skirt", "kneehighs"],
        "similar": ["2001", "11"],
        "prompts": "1girl, solo, serafuku, pleated_skirt, kneehighs",
        "md5": f"{1001:032x}",
        "width": 128,
        "height": 128,
        "file_ext": "png",
    }
    assert "md5" not in found["12"]


def test_several_processes_write_the_same_bytes(metadata, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        run_local.collect(Settings(metadata, tmp_path / name, workers=workers))
    one, two = (
        {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two and len(one) == 2


def test_many_small_files_become_few_of_annotations(tmp_path, monkeypatch):
    (tmp_path / "meta").mkdir()
    for k in range(1, 41):  # as gallery-dl writes them, one a picture
        (tmp_path / "meta" / f"{k:02d}.json").write_text(json.dumps(danbooru_dump.post(k)))
    batches, map_in_order = [], run_local.processes.map_in_order

    def mapped(function, jobs, *, workers, batch):
        batches.append((workers, batch))
        return map_in_order(function, jobs, workers=1)

    monkeypatch.setattr(run_local.processes, "map_in_order", mapped)
    monkeypatch.setattr(run_local.output, "LINES", 15)
    metadata = tuple(sorted(map(str, (tmp_path / "meta").iterdir())))
    run_local.collect(Settings(metadata, tmp_path / "out", workers=2))
    assert batches == [(2, 5)]
    files = sorted((tmp_path / "out").glob("*.json"))
    ids = [[json.loads(line)["id"] for line in path.open()] for path in files]
    assert [path.name for path in files] == [f"annotations-{k:05d}-of-00003.json" for k in range(3)]
    assert [len(held) for held in ids] == [15, 15, 10] and sum(ids, []) == [
        str(k) for k in range(1, 41)
    ]


def test_with_images_missing_broken_and_near_copies_are_dropped(metadata, images, tmp_path):
    run_local.collect(Settings(metadata, tmp_path / "annotations", images=images, max_unreadable=1))
    found, dropped = danbooru_dump.read(tmp_path / "annotations")
    reasons = {name: reason for _, _, name, reason in dropped}
    assert reasons["12"] in ("bad_md5", "no_image")
    assert ("b.json", 9, "12", "no_image") in dropped
    assert reasons["6"] == "unreadable_image"
    assert reasons["1001"] == "near_copy"  # of 11, which has the smaller id
    assert similar(found) == {"11": ["2001"], "2001": ["11"]}


def test_answers_separate_what_tags_do_not(metadata, images, tmp_path):
    seen = []

    def vqa(batch):
        seen.extend(batch)
        return [{QUESTIONS[1]: "blue" if i.size == (200, 200) else "red"} for i in batch]

    settings = Settings(metadata, tmp_path / "annotations", images=images, max_unreadable=1)
    with pytest.raises(CollectionFailed):  # nothing is left
        run_local.collect(settings, image_models.Models(vqa=vqa))
    dropped = danbooru_dump.read_dropped(outcome.failed_list(settings.out))
    assert len(seen) == 3 and {i.mode for i in seen} == {"RGB"}  # sendai's; naka has only one
    assert ("a.json", 2, "2001", "no_partner") in dropped


def test_a_vqa_model_is_asked_nothing_where_no_character_has_two_images(tmp_path):
    (tmp_path / "posts.json").write_text(json.dumps(danbooru_dump.post(1001)))
    Image.new("RGB", (20, 20)).save(tmp_path / "1001.png")
    metadata = (str(tmp_path / "posts.json"),)
    settings = Settings(metadata, tmp_path / "annotations", images=tmp_path)
    with pytest.raises(CollectionFailed) as failed:
        run_local.collect(settings, image_models.Models(vqa=lambda images: 1 / 0))
    assert failed.value.counts == {"kept": 0, "no_partner": 1}


def test_detectors_run_on_what_is_kept(metadata, images, tmp_path):
    box = (0.5, 0.25, 0.125, 0.0625)
    models = image_models.Models(
        detect_face=lambda image: box if image.size == (200, 200) else None,
        segment_figure=lambda image: Image.new("L", image.size, 7),
    )
    settings = Settings(
        metadata,
        tmp_path / "annotations",
        images=images,
        masks=tmp_path / "masks",
        max_unreadable=1,
    )
    run_local.collect(settings, models)
    found, _ = danbooru_dump.read(tmp_path / "annotations")
    assert {name: record["bbox"] for name, record in found.items()} == {
        "11": list(box),
        "2001": None,
    }
    masks = {path.name: Image.open(path) for path in (tmp_path / "masks").iterdir()}
    assert {name: mask.size for name, mask in masks.items()} == {
        "11.png": (200, 200),
        "2001.png": (128, 128),
    }


def test_masks_of_a_collection_that_is_interrupted_replace_none(
    metadata, images, tmp_path, monkeypatch
):
    settings = Settings(metadata, tmp_path / "out", images=images, max_unreadable=1)
    models = image_models.Models(segment_figure=lambda image: Image.new("L", image.size, 7))
    mask = tmp_path / "masks" / "11.png"
    mask.parent.mkdir()
    mask.write_bytes(b"by hand")
    with monkeypatch.context() as broken:
        broken.setattr(run_local.output, "write_annotations", lambda *a, **given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_local.collect(settings, models)
    assert list(mask.parent.iterdir()) == [mask] and mask.read_bytes() == b"by hand"
    run_local.collect(settings, models)
    assert Image.open(mask).size == (200, 200)
    assert {path.name for path in settings.out.iterdir()} == {
        "annotations-00000-of-00001.json",
        "manifest",
    }


def test_a_collection_that_was_interrupted_starts_clean(metadata, tmp_path, monkeypatch):
    settings = Settings(metadata, tmp_path / "annotations")
    with monkeypatch.context() as broken:
        broken.setattr(run_local.output, "write_dropped", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_local.collect(settings)
    assert not settings.out.exists()
    run_local.collect(settings)
    assert similar(danbooru_dump.read(settings.out)[0]) == danbooru_dump.EXPECTED_KEPT
    assert {path.name for path in tmp_path.iterdir()} == {"meta", "annotations"}


# --- images


def test_images_are_found_in_every_layout_and_nowhere_else(images):
    found = {n: layout.find_image(images, str(n), "png") for n in (1001, 2001, 5, 9, 11, 12)}
    names = {n: path and str(path.relative_to(images)) for n, path in found.items()}
    assert names == {
        1001: "original/0001/1001.png",
        2001: "original/0001/2001.png",
        5: "512px/0005/5.jpg",
        9: "9.png",
        11: "11.webp",
        12: None,
    }


def test_models_get_an_image_as_the_builder_stores_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    image.putpixel((20, 10), (255, 0, 0, 255))
    image.save(tmp_path / "7.png", exif=exif)
    (image,) = image_models.answer_questions(lambda images: images, tmp_path, [(7, "png")])
    assert (image.size, image.mode) == ((20, 40), "RGB")
    assert image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_does_not_decode_is_unreadable(tmp_path, data):
    (tmp_path / "7.png").write_bytes(data)
    assert image_models.hash_image(tmp_path, (7, "png")) == "unreadable_image"


def test_what_the_builder_would_refuse_is_unreadable(tmp_path, monkeypatch):
    Image.new("L", (20, 20)).save(tmp_path / "7.png")
    assert len(image_models.hash_image(tmp_path, (7, "png"))) == variants.SIZE
    monkeypatch.setattr(images_lib, "MAX_PIXELS", 399)
    assert image_models.hash_image(tmp_path, (7, "png")) == "unreadable_image"


# --- the command


def run(*options: object) -> None:
    command.main([*map(str, options), "--workers", "1"])


def test_the_command_collects_and_counts(metadata, tmp_path, capsys):
    out = tmp_path / "annotations"
    table = {"antecedent_name": "naka", "consequent_name": "sendai"}
    (tmp_path / "aliases.json").write_text(json.dumps([table]))
    run(
        "--metadata", tmp_path / "meta/*.json", "--out", out, "--aliases", tmp_path / "aliases.json"
    )
    assert "9" in danbooru_dump.read(out)[0]
    assert "          15  read\n           7  kept\n" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--min_facts", "--min-facts"])
def test_an_option_of_two_words_may_be_spelled_with_a_hyphen(metadata, tmp_path, option):
    basis = ["--metadata", tmp_path / "meta/*.json", "--out", tmp_path / "annotations"]
    with pytest.raises(SystemExit, match=r"nothing is kept of 15 posts.*\n +7  no_partner"):
        run(*basis, option, 4)


def test_the_help_has_one_spelling():
    text = command.parser().format_help()
    assert "--min_facts" in text and "--min-facts" not in text


# --- paths of the command


@pytest.mark.parametrize("folder", ["[danbooru] moon", "a b", "@home", "日本é", "x*y", "~"])
@pytest.mark.parametrize("name", ["[posts].json", "posts 1.json", "*.json", "*[1s].json"])
def test_paths_that_exist_are_taken_literally(tmp_path, folder, name):
    (tmp_path / folder).mkdir()
    posts = "".join(json.dumps(danbooru_dump.post(k)) + "\n" for k in (1, 2))
    (tmp_path / folder / name.replace("*", "posts").replace("[1s]", "1")).write_text(posts)
    run("--metadata", tmp_path / folder / name, "--out", tmp_path / folder / "out")
    assert set(danbooru_dump.read(tmp_path / folder / "out")[0]) == {"1", "2"}


def test_two_asterisks_stand_for_any_folders(metadata, tmp_path):
    run("--metadata", tmp_path / "**/*.json", "--out", tmp_path / "out")
    assert similar(danbooru_dump.read(tmp_path / "out")[0]) == danbooru_dump.EXPECTED_KEPT


def test_a_tilde_is_the_home_folder_in_every_option(metadata, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("images", "vqa", "masks"):
        (tmp_path / name).mkdir()
    files = ("vocabulary", "aliases", "implications", "faces", "figures")
    for name in files:
        (tmp_path / name).write_text("[]" if name.endswith("s") else "skirt")
    paths = [f"--{name}=~/{name}" for name in ("images", "vqa", "masks", *files)]
    args = command.parser().parse_args(["--metadata=~/meta/a.json", "--out=~/out", *paths])
    settings = command.read_settings(args)
    assert settings.metadata == (str(tmp_path / "meta/a.json"),)
    assert settings.out == tmp_path / "out"
    for name in ("images", "vqa", "masks", "faces", "figures"):
        assert getattr(settings, name) == tmp_path / name
    assert settings.criteria.vocabulary == {"skirt"}


def test_a_link_to_nothing_among_metadata_is_an_error(metadata, tmp_path):
    (tmp_path / "meta" / "gone.json").symlink_to(tmp_path / "nowhere.json")
    with pytest.raises(SystemExit, match=r"No such file or directory: .*gone\.json"):
        run("--metadata", tmp_path / "meta/*.json", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pipe_as_metadata_is_an_error_that_says_what_to_give(tmp_path):
    os.mkfifo(tmp_path / "posts.json")
    with pytest.raises(SystemExit, match="posts.json is no file on a disk.* write it to a file"):
        run("--metadata", tmp_path / "posts.json", "--out", tmp_path / "out")


def test_a_folder_as_metadata_is_an_error_that_says_what_to_give(metadata, tmp_path):
    with pytest.raises(SystemExit, match=r"meta is a folder: name its files, as '.*meta/[*].json'"):
        run("--metadata", tmp_path / "meta", "--out", tmp_path / "out")


# --- the VQA model of --vqa


def fake_vqa(folder, questions):
    """Answers the number of the folder's files to every question."""
    answer = str(len(list(folder.iterdir())))
    return lambda images: [dict.fromkeys(questions, answer)] * len(images)


def run_with_vqa(images, tmp_path, *options) -> list[dict[str, str]]:
    """The answers that outfits are found with."""
    found = []
    partners = run_local.outfits.partners

    def record(ids, cloths, *, answers, **options):
        found.extend(answers)
        return partners(ids, cloths, answers=answers, **options)

    basis = ["--metadata", tmp_path / "meta/*.json", "--out", tmp_path / "annotations"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_local.outfits, "partners", record)
        given = "--images", images, "--vqa", tmp_path / "meta", "--max_unreadable", 1
        run(*basis, *given, *options)
    return found


def test_a_vqa_model_is_opened_by_the_function_that_is_named(metadata, images, tmp_path):
    found = run_with_vqa(images, tmp_path, "--vqa_loader", f"{__name__}:fake_vqa")
    assert dict.fromkeys(QUESTIONS, "2") in found


def test_a_vqa_model_is_opened_by_an_installed_package(metadata, images, tmp_path, monkeypatch):
    entry = importlib.metadata.EntryPoint("x", f"{__name__}:fake_vqa", image_models.VQA_GROUP)
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: {image_models.VQA_GROUP: [entry]}[group]
    )
    assert dict.fromkeys(QUESTIONS, "2") in run_with_vqa(images, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "",
            "--vqa needs one installed package with an entry point tfds_retribooru.vqa, and there",
        ),
        ("no_such_module:load", "--vqa_loader no_such_module:load cannot be imported: No module"),
        ("json:no_such", "--vqa_loader json:no_such cannot be imported: module 'json' has no"),
        ("not a name", "--vqa_loader not a name cannot be imported: invalid format"),
        ("json", "--vqa_loader json is no function: give MODULE:FUNCTION"),
    ],
)
def test_a_loader_that_cannot_be_found_is_named(monkeypatch, name, message):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    with pytest.raises(ValueError, match=f"^{message}"):
        image_models.find_vqa_loader(name)


# --- errors of the command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metadata", "none/*.json"], "--metadata none/[*].json: no such file"),
        (["--metadata", "~no_such_user/*.json"], "--metadata ~no_such_user/[*].json: no such file"),
        (["--vqa", "x"], "--vqa, --faces and --figures read images: give --images DIR"),
        (["--images", "none"], "--images none: no such folder"),
        (["--lacking", "2"], "shares must be in"),
        (["--max_unreadable", "2"], "max_unreadable=2 is no share in"),
        (["--min_kept", "-1"], "min_kept=-1 is no share in"),
        (["--masks", "{out}/masks"], "masks=.* lies in out=.*: give a folder beside it"),
    ],
)
def test_wrong_options_end_with_one_line(metadata, tmp_path, options, message):
    basis = ["--metadata", tmp_path / "meta/*.json", "--out", tmp_path / "annotations"]
    with pytest.raises(SystemExit, match=f"^collect: .*{message}"):
        run(*basis, *(option.format(out=tmp_path / "annotations") for option in options))


def test_a_missing_package_is_named_before_anything_is_read(metadata, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    options = ["--metadata", tmp_path / "meta/*.json", "--images", tmp_path, "--out", "x"]
    with pytest.raises(SystemExit, match=r"--faces needs onnxruntime: pip install .*\[collect\]"):
        run(*options, "--faces", "x.onnx")


def test_results_are_not_overwritten(metadata, tmp_path):
    (tmp_path / "annotations").mkdir()
    with pytest.raises(SystemExit, match="annotations exists: remove it, or name another folder"):
        run("--metadata", tmp_path / "meta/*.json", "--out", tmp_path / "annotations")


def test_of_two_collections_into_one_folder_one_waits(metadata, tmp_path, capsys):
    out = tmp_path / "out"
    with ThreadPoolExecutor(1) as pool:
        with locks.build_lock(out):
            second = pool.submit(run_local.collect, Settings(metadata, out, workers=1))
            while "waiting for it" not in capsys.readouterr().out:
                assert not second.done()
                time.sleep(0.01)
            out.mkdir()
        with pytest.raises(FileExistsError, match="remove it, or name another folder"):
            second.result()
    assert not list(out.iterdir())


def test_options_of_a_runner_need_one(metadata, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(
            "--metadata",
            tmp_path / "meta/*.json",
            "--out",
            tmp_path / "a",
            "--direct_num_workers=2",
        )
    assert "unknown options --direct_num_workers=2" in capsys.readouterr().err
