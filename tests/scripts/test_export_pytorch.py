"""The command that exports: what its options write."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from rbjax.inference import model_loading
from rbjax.interop import saved_model
from scripts import export_pytorch
from tests.helpers import tiny_saved_model


@pytest.mark.parametrize("half, dtype", [([], np.float32), (["--half"], np.float16)])
def test_a_saved_model_is_loaded_again(half, dtype, tmp_path, capsys):
    model = tiny_saved_model.model()
    saved_model.save(model, tmp_path / "model")
    line = f"--format model --checkpoint {tmp_path / 'model'} --out {tmp_path / 'copy'}"
    export_pytorch.main([*line.split(), *half])
    assert capsys.readouterr().out == f"wrote {tmp_path / 'copy'}\n"
    tensors = load_file(tmp_path / "copy/retrinet/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(dtype)}
    assert model_loading.load_model(tmp_path / "copy").graphdef == model.graphdef
    assert not (tmp_path / "copy" / "pipeline.py").exists()


def test_a_pipeline_is_the_default(tmp_path, capsys):
    saved_model.save(tiny_saved_model.model(), tmp_path / "model")
    export_pytorch.main(["--checkpoint", str(tmp_path / "model"), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.endswith(f"how to load it: {tmp_path / 'out'}/README.md\n")
    assert (tmp_path / "out" / "pipeline.py").is_file()


def test_a_folder_without_a_model_ends_with_one_line(tmp_path):
    with pytest.raises(SystemExit, match="Error: --checkpoint=.* holds no model"):
        export_pytorch.main(["--checkpoint", str(tmp_path), "--out", str(tmp_path / "out")])
