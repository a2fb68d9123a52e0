"""What version 0.1 wrote is still read: a run, its export and a data set.

`version_0_1.tar.xz` holds run/ (six steps of `tests.helpers.tiny_run` on avatars/tiny), export/
(the run, by `scripts/export_pytorch.py`), references.npy and the images.npy that were generated
from them, data/ (retribooru/384 of the builder's dummy data) and crops.npy, the crops of train.
"""

import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from rbjax import generate
from rbjax.data import dataset
from rbjax.data.image_cache import ConceptCrops
from rbjax.inference.reference import Reference
from rbjax.text.concepts import CONCEPTS
from rbjax.train import loop
from tests.helpers import tiny_run

ARCHIVE = pathlib.Path(__file__).parent / "version_0_1.tar.xz"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("version_0_1")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("checkpoint", ["run", "export"])
def test_a_run_and_its_export_generate_the_same_images(written, checkpoint):
    model = generate.load_model(written / checkpoint)
    face, clothes = np.load(written / "references.npy")
    references = [Reference("face", face, (1, 2, 8, 9)), Reference("clothes", clothes)]
    images = generate.generate(
        model, "closed eyes, red background", references, num_images=2, seed=3
    )
    expected = np.load(written / "images.npy")
    np.testing.assert_allclose(images.astype(int), expected.astype(int), atol=1, rtol=0)


def test_a_run_resumes(written, avatars_dir, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(loop, "Evaluator", tiny_run.NoEvaluation)
    workdir = shutil.copytree(written / "run", tmp_path / "run")
    config = ConfigDict(json.loads((workdir / "config.json").read_text()))
    config.data_dir, config.total_steps, config.mesh.data = str(avatars_dir), 8, 1
    before = json.loads((workdir / "loss.json").read_text())
    loop.train(config, workdir)
    assert "Resuming at step 6." in capsys.readouterr().out
    *history, (step, loss) = json.loads((workdir / "loss.json").read_text())
    assert history == before and step == 8
    assert loss == pytest.approx(1.290151, rel=1e-4)  # of version 0.1's code on this data


def test_a_data_set_opens(written):
    builder = tfds.builder("retribooru/384", data_dir=written / "data")
    splits = {name: dataset.open_split(builder, name) for name in ("train", "validation", "test")}
    assert [len(split) for split in splits.values()] == [10, 2, 4]
    train = splits["train"]
    assert list(train.clusters.names) == ["invented_0", "invented_1", "invented_2"]
    assert list(train.clusters.character) == [2, 0, 1, 2, 1, 1, 1, 0, 2, 2]
    assert list(train.clusters.outfit) == [3, 0, 1, 3, 1, 2, 2, 0, 4, 4]
    assert train.tags == [["1girl", "solo", "red_hair", "skirt", "smile"]] * 10


def test_the_crops_of_a_data_set_are_the_same(written):
    builder = tfds.builder("retribooru/384", data_dir=written / "data")
    split = dataset.open_split(builder, "train")
    crops = ConceptCrops(split, size=12, view="in_place", cache=False)
    expected = np.load(written / "crops.npy")
    for i in range(len(expected)):
        for concept in range(len(CONCEPTS)):
            difference = crops[i, concept].astype(int) - expected[i, concept]
            assert abs(difference).max() <= 1
