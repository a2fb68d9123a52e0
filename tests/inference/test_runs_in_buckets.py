"""A run or an export in a bucket is read with the same result as on a disk."""

import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from rbjax import evaluate, generate, storage
from rbjax.evaluation import judging
from rbjax.experiment import workdir as workdir_lib
from rbjax.inference import model_loading
from scripts import export_pytorch
from tests.compatibility.test_version_0_1 import ARCHIVE
from tests.helpers import bucket, tiny_run


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> pathlib.Path:
    """A folder with run/ and export/."""
    folder = tmp_path_factory.mktemp("version_0_1")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def there(here):
    """The same in a bucket."""
    with bucket.opened("inference") as url:
        for name in ("run", "export"):
            for path in storage.files(here / name):
                (epath.Path(url) / path.relative_to(here)).write_bytes(path.read_bytes())
        yield epath.Path(url)


@pytest.mark.parametrize("name", ["run", "export"])
def test_its_parameters_are_read(here, there, name):
    models = [model_loading.load_model(str(place / name)) for place in (here, there)]
    jax.tree.map(np.testing.assert_array_equal, *(model.params for model in models))
    assert models[0].config.to_json() == models[1].config.to_json()


def test_a_folder_that_holds_no_model_says_what_is_expected(there):
    with pytest.raises(FileNotFoundError, match="gs://inference/none holds no model: expected"):
        model_loading.load_model(there / "none")


def test_images_are_generated_from_it_and_into_it(here, there):
    line = "--prompt=smile --num_images=2 --seed=3 --steps=1"
    pixels = []
    for place in (here, there):
        options = [f"--checkpoint={place / 'run'}", f"--out={place / 'a b'}", *line.split()]
        files = generate.run(generate.parse_args(options))
        assert [path.name for path in files] == ["000003.png", "000004.png", "grid.png"]
        with storage.local_copy(files[0]) as path, Image.open(path) as image:
            assert json.loads(image.info["rbjax"])["checkpoint"] == str(place / "run")
            pixels.append(np.asarray(image))
    np.testing.assert_array_equal(*pixels)


def test_it_is_exported_into_a_folder_that_is_empty(here, there, capsys):
    for place in (here, there):
        options = [f"--checkpoint={place / 'run'}", f"--out={place / 'new'}"]
        export_pytorch.main(options)
        assert f"wrote {place / 'new'}" in capsys.readouterr().out
    with storage.local_copy(there / "new") as copy:
        found = {path.relative_to(copy): path.read_bytes() for path in storage.files(copy)}
    folder = here / "new"
    assert found == {p.relative_to(folder): p.read_bytes() for p in storage.files(folder)}
    with pytest.raises(SystemExit, match="Error: gs://inference/new is not empty: name another"):
        export_pytorch.main(options)


def test_it_is_scored_and_the_scores_are_compared(here, there, avatars_dir, monkeypatch, capsys):
    monkeypatch.setattr(judging.VQA, "load", lambda *folder: tiny_run.VQA())
    settings = f"--dataset=avatars/tiny --data_dir={avatars_dir} --suite=validation"
    settings += " --characters=2 --prompts=2 --repeats=1"
    for place in (here, there):
        options = [f"--checkpoint={place / 'run'}", f"--out={place / 'scores'}"]
        evaluate.run(evaluate.parse_args([*settings.split(), *options]))
    results = [(place / "scores/results.json").read_bytes() for place in (here, there)]
    assert results[0] == results[1] and b"trained" in results[0]
    names = [
        {path.relative_to(place / "scores").as_posix() for path in storage.files(place / "scores")}
        for place in (here, there)
    ]
    assert names[0] == names[1] and "report/index.html" in names[0]
    capsys.readouterr()
    folders = [str(place / "scores") for place in (here, there)]
    evaluate.run(evaluate.parse_args(["--compare", *folders]))
    assert "+0.0 [+0.0, +0.0]" in capsys.readouterr().out


def test_cases_for_others_to_fill_are_files_of_this_machine(there):
    options = ["--suite=test", "--write_manifest", f"--out={there / 'cases'}"]
    with pytest.raises(ValueError, match="--out=gs://inference/cases is a URL; only files"):
        evaluate.run(evaluate.parse_args(options))


def test_the_page_opens_and_shows_it_but_asks_it_nothing(here, there):
    pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[demo]'")
    from rbjax.demo_page import run_tab
    from rbjax.demo_page.studio import open_all

    opened = open_all([here / "run", there / "run", there / "run"], None)
    assert [studio.name for studio in opened] == ["run", "run (2)", "run (3)"]
    assert run_tab.report(there / "run") == run_tab.report(here / "run")
    with pytest.raises(ValueError, match="A run in a bucket cannot be asked"):
        workdir_lib.request(there / "run", "save_now")
