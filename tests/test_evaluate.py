"""The command that scores models and images, on suites and on manifests."""

import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from rbjax import evaluate
from rbjax.evaluation import judging, manifest, similarity
from tests.compatibility.test_version_0_1 import ARCHIVE
from tests.helpers import similarity_folders, tiny_run, train_process

FEW = ["--characters", "2", "--prompts", "2", "--repeats", "1"]


@pytest.fixture
def start(avatars_dir, monkeypatch):
    """start(*options): runs the command on avatars/tiny with a stand-in for the VQA model."""
    monkeypatch.setattr(judging.VQA, "load", lambda *folder: tiny_run.VQA())
    data = ["--dataset", "avatars/tiny", "--data_dir", str(avatars_dir)]
    return lambda *options: evaluate.run(evaluate.parse_args([*data, *map(str, options)]))


@pytest.fixture
def cases(start, tmp_path):
    """Cases of a suite, filled with their clothes references but for the last."""
    folder = tmp_path / "cases"
    start("--suite", "test", *FEW, "--size", 16, "--write_manifest", "--out", folder)
    for entry in manifest.read(folder)[:-1]:
        shutil.copy(folder / entry.references[-1].image, folder / entry.image)
    return folder


def results(folder):
    assert (folder / "report" / "index.html").stat().st_size > 1000
    return json.loads((folder / "results.json").read_text())


def test_images_of_another_system_stand_beside_the_baselines(start, cases, tmp_path, capsys):
    out = tmp_path / "out"
    start("--suite", "test", *FEW, "--size", 16, "--images", f"ours={cases}", "--out", out)
    found = results(out)
    assert found["suite"] == "test" and found["size"] == 16
    assert {"ours", "copy_reference", "real_images"} <= found["rows"].keys()
    assert not {"trained", "references_blanked"} & found["rows"].keys()
    assert found["unscored"]["ours"] == {manifest.MISSING: 1}
    assert len(found["scored"]["ours"]) == len(manifest.read(cases))
    text = capsys.readouterr().out
    assert "| ours" in text and "Nearest of 2 real images" in text
    start("--compare", out, out, "--rows", "copy_reference", "ours")
    text = capsys.readouterr().out
    assert "| outfit agreement | +0.0 [+0.0, +0.0] |" in text
    with pytest.raises(ValueError, match="no row 'trained'"):
        start("--compare", out, out)


def test_models_of_the_user_add_columns(start, cases, tmp_path, capsys):
    similarity_folders.make_clip(tmp_path / "clip")
    similarity_folders.make_dino(tmp_path / "dino")
    similarity_folders.make_face(tmp_path / "face.onnx")
    models = [f"--clip={tmp_path / 'clip'}", f"--dino={tmp_path / 'dino'}"]
    models.append(f"--face={tmp_path / 'face.onnx'}")
    suite = ("--suite", "test", *FEW, "--size", 16)
    start(*suite, "--images", f"ours={cases}", *models, "--out", tmp_path / "out")
    found = results(tmp_path / "out")
    assert found["similarity"]["ours"].keys() == similarity.NOTES.keys()
    copied = found["similarity"]["copy_reference"]
    assert all(copied[name] for name in similarity.NOTES)
    ours = found["similarity"]["ours"]  # copies of the clothes references
    assert ours["clip_i_clothes"]["mean"] == pytest.approx(1, abs=1e-3)
    assert ours["dino"]["mean"] < 0.99
    assert set(found["copying"]["ours"]) == {"pixels", "judge's features", "CLIP", "DINO", "face"}
    assert "| copy reference |" in capsys.readouterr().out
    start("--images", cases, *models, "--out", tmp_path / "foreign")  # boxes of the manifest
    alone = results(tmp_path / "foreign")["similarity"]["cases"]
    assert alone["clip_i_clothes"]["mean"] == pytest.approx(1, abs=1e-3)  # a copy, entire
    assert alone["face_distance"] and alone["clip_t"]


def test_a_manifest_of_any_cases_needs_no_suite(start, cases, tmp_path):
    out = tmp_path / "out"
    start("--images", cases, "--out", out)
    found = results(out)
    assert found["rows"].keys() == {"cases"} and found["size"] == 128  # of the images
    assert found["unscored"]["cases"] == {manifest.MISSING: 1}
    assert found["rows"]["cases"]["vqa_flexibility"] is not None
    assert found["rows"]["cases"]["outfit_agreement"] is None  # nothing says what they show
    assert found["nearest"] is None


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "--out is missing"),
        (["--out", "x"], "nothing to score"),
        (["--out", "x", "--write_manifest"], "nothing to score"),
        (["--out", "x", "--images", "/nowhere"], "/nowhere/manifest.jsonl is missing"),
        (["--out", "x", "--images", "trained=/nowhere"], "another row is called 'trained'"),
        (["--out", "x", "--images", "/cases/moved"], "another row is called 'moved'"),
        (["--out", "x", "--images", "real=/nowhere"], "another row is called 'real'"),
        (["--out", "x", "--images", "/a/b", "--images", "/c/b"], "another row is called 'b'"),
        (["--out", "x", "--images", "../b=/a"], r"a row cannot be called '\.\./b'"),
        (["--out", "x", "--images", "a=gs://b/c"], "--images=gs://b/c is a URL"),
        (["--out", "x", "--dino", "https://b/c"], "--dino=https://b/c is a URL"),
        (
            ["--out", "x", "--images", "/nowhere", "--seed", "0", "--prompts", "1"],
            "--prompts, --seed: the cases are all that the manifests name",
        ),
        (["--out", "x", "--suite", "tset"], "no split 'tset', only"),
        (
            ["--out", "x", "--suite", "test", "--characters", "0"],
            "--characters=0: must be at least",
        ),
        (["--out", "x", "--checkpoint", "/nowhere"], "--checkpoint=/nowhere holds no model"),
        (["--out", "x", "--checkpoint", "shipped", "--size", "7"], "--size=7: the model makes"),
    ],
)
def test_what_cannot_be_scored_is_refused(start, options, message):
    with pytest.raises((ValueError, OSError), match=message):
        start(*options)


def test_what_no_evaluation_wrote_is_not_replaced(start, cases, tmp_path):
    """A user's images in a folder of that name were deleted."""
    own = tmp_path / "paper" / "report"
    shutil.copytree(cases, own)
    before = sorted(path for path in own.rglob("*"))
    for images in (own, cases):
        with pytest.raises(ValueError, match="paper.* would (replace|be replaced)"):
            start("--images", f"a={images}", "--out", tmp_path / "paper")
    (tmp_path / "paper" / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="its report would replace the images in"):
        start("--images", own, "--out", tmp_path / "paper")
    assert sorted(path for path in own.rglob("*")) == before
    with pytest.raises(ValueError, match="results.json is a file"):
        start("--images", cases, "--out", tmp_path / "paper" / "results.json")


def test_the_folder_of_a_training_is_not_written_into(start, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="is the folder of a training"):
        start("--checkpoint", tmp_path, "--out", tmp_path)


def test_damaged_images_of_a_suite_are_refused_before_anything_is_made(start, cases, tmp_path):
    path = cases / manifest.NAME
    path.write_text(path.read_text().replace("solo, ", "solo, smile, "))
    with pytest.raises(ValueError, match="entry 'test-00000': its prompt"):
        start("--suite", "test", *FEW, "--size", 16, "--images", cases, "--out", tmp_path / "out")


@pytest.mark.slow
def test_a_run_is_scored_on_a_suite_the_same_each_time(start, tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for name in ("one", "two"):
        start(
            *("--checkpoint", tmp_path / "run", "--suite", "validation", *FEW),
            *("--out", tmp_path / name),
        )
    found = results(tmp_path / "one")
    assert {"trained", "references_blanked", "real_images"} <= found["rows"].keys()
    assert found["suite"] == "validation" and found["size"] == 12 and found["step"] == 6
    assert (tmp_path / "one" / "results.json").read_bytes() == (
        tmp_path / "two" / "results.json"
    ).read_bytes()


@pytest.mark.slow
def test_two_processes_score_a_run_as_one_does(avatars_dir, tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    arguments = ["--dataset", "avatars/tiny", "--data_dir", avatars_dir, *FEW]
    arguments += ["--checkpoint", tmp_path / "run", "--suite", "validation", "--out"]
    for processes in (1, 2):
        out = tmp_path / f"of_{processes}"
        printed = train_process.evaluate(
            [*arguments, out], processes=processes, devices=2 // processes
        )
        assert "Results:" in printed[0] and not any("Results:" in text for text in printed[1:])
    one, two = (results(tmp_path / f"of_{n}") for n in (1, 2))
    assert one["rows"].keys() == two["rows"].keys() and "trained" in one["rows"]
    assert one["scored"] == two["scored"] and one["rows"] == two["rows"]
    images = [sorted((tmp_path / f"of_{n}/report/images").rglob("*")) for n in (1, 2)]
    assert len(images[0]) == len(images[1]) > 4
    for first, second in zip(*images, strict=True):
        if first.suffix == ".png":
            pixels = [np.asarray(Image.open(path)).astype(int) for path in (first, second)]
            np.testing.assert_allclose(*pixels, atol=1)
