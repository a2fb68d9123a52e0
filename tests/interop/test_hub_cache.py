"""Folders as huggingface_hub's client keeps them: links from snapshots into blobs."""

import pathlib
import shutil

import pytest
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from rbjax.interop import hub_cache, huggingface

NAMES = ("0a1b", "2c3d")


@pytest.fixture
def cache(tmp_path) -> pathlib.Path:
    """models--owner--name with two snapshots of one model; refs/main names the second."""
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    config = CLIPVisionConfig(**sizes, image_size=8, patch_size=4, projection_dim=6)
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "plain")
    folder = tmp_path / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(NAMES[1])
    (folder / "blobs").mkdir()
    for path in (tmp_path / "plain").iterdir():
        shutil.copy(path, folder / "blobs" / f"hash_{path.name}")
        for name in NAMES:
            (folder / "snapshots" / name).mkdir(parents=True, exist_ok=True)
            link = folder / "snapshots" / name / path.name
            link.symlink_to(pathlib.Path("..", "..", "blobs", f"hash_{path.name}"))
    return folder


def test_the_snapshot_of_refs_main_is_taken(cache):
    assert hub_cache.model_folder(cache) == cache / "snapshots" / NAMES[1]
    assert type(huggingface.load(cache)).__name__ == "CLIPVisionModelWithProjection"


def test_a_snapshot_and_any_other_folder_are_taken_as_they_are(cache):
    for folder in (cache / "snapshots" / NAMES[0], cache.parent / "plain", cache / "nowhere"):
        assert hub_cache.model_folder(folder) == folder
    huggingface.load(cache / "snapshots" / NAMES[0])


def test_without_a_reference_the_only_snapshot_is_taken_and_of_several_one_is_to_be_named(cache):
    (cache / "refs" / "main").unlink()
    with pytest.raises(ValueError, match=f"name the folder of one .*{NAMES[0]}, .*{NAMES[1]}"):
        hub_cache.model_folder(cache)
    shutil.rmtree(cache / "snapshots" / NAMES[1])
    assert hub_cache.model_folder(cache) == cache / "snapshots" / NAMES[0]
    shutil.rmtree(cache / "snapshots" / NAMES[0])
    with pytest.raises(FileNotFoundError, match="there is none"):
        hub_cache.model_folder(cache)


def test_the_folder_of_all_repositories_names_them(cache):
    with pytest.raises(ValueError, match=f"cache of the Hugging Face Hub: name one of {cache}"):
        hub_cache.model_folder(cache.parent)


def test_links_without_their_blobs_are_named(cache):
    shutil.rmtree(cache / "blobs")
    with pytest.raises(FileNotFoundError, match="is a link to .*blobs.*which is not there.*cp -rL"):
        huggingface.load(cache)
