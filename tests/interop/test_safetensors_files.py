"""Safetensors files that are not what they seem: each is refused with what to do."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from rbjax.interop import safetensors_files


def test_the_original_layout_is_refused_with_the_way_to_convert_it(tmp_path):
    path = tmp_path / "anime.safetensors"
    save_file({"model.diffusion_model.out.2.bias": np.zeros(4)}, path)
    with pytest.raises(ValueError, match=r"original layout.*from_single_file\('.*anime.safeten"):
        safetensors_files.open_file(path)


def test_quantised_weights_are_refused_when_they_are_read(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"bias": np.zeros(8, np.int8), "scale": np.ones(3, np.float16)}, path)
    tensors = safetensors_files.open_folder(tmp_path)
    np.testing.assert_array_equal(np.asarray(tensors["scale"]), 1)
    with pytest.raises(ValueError, match="model.safetensors: bias is stored as I8. Quantised"):
        np.asarray(tensors["bias"])


def test_a_prefix_changes_the_keys_alone(tmp_path):
    path = tmp_path / "model.safetensors"
    values = {"bias": np.arange(3, dtype=np.float16), "scale": np.ones((2, 5), np.float32)}
    save_file(values, path)
    safetensors_files.add_prefix(path, "text_model")
    found = safetensors_files.open_folder(tmp_path)
    assert found.keys() == {f"text_model.{key}" for key in values}
    for key, value in values.items():
        np.testing.assert_array_equal(np.asarray(found[f"text_model.{key}"]), value, strict=True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_pointer_of_git_lfs_is_recognised(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 3\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(ValueError, match="model.safetensors is a pointer of Git LFS.*lfs pull"):
        safetensors_files.open_folder(tmp_path)


@pytest.mark.parametrize("content, message", [("{}", "has no weight_map"), ("{", "is not JSON")])
def test_damaged_indices_are_named(tmp_path, content, message):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=f"model.safetensors.index.json {message}"):
        safetensors_files.open_folder(tmp_path)


def test_a_file_is_read_by_whom_the_user_lets_read(tmp_path):
    before = os.umask(0o027)
    try:
        safetensors_files.save({"a": np.zeros(1)}, tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640
