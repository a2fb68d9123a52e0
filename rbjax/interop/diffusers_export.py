"""A saved model as a diffusers pipeline: the Python files of torch_pipeline/, and one single file.

The export is the folder of saved_model.py (our parameter names are diffusers') with the classes
that diffusers lacks beside the parts they belong to, so `rbjax.generate` reads it too. The text
encoder's keys are those of transformers 4: later versions read them as well, and 4 would only warn
of others and take random weights. torch is not needed to write it.
"""

import shutil
from pathlib import Path

from jax.typing import DTypeLike

from rbjax.interop import huggingface, safetensors_files, saved_model
from rbjax.interop.saved_model import Model
from rbjax.models.clip_text import OLD_PREFIX

SOURCES = Path(__file__).parent / "torch_pipeline"
PLACES = {
    "pipeline.py": "",
    "modeling_retrinet.py": "retrinet",
    "modeling_block_dct.py": "vae",
    "scheduling_retrinet.py": "scheduler",
    "comfyui_retrinet.py": "",
    "README.md": "",
}
SINGLE_FILE = "retrinet.safetensors"
WEIGHTS = {
    "retrinet": huggingface.DIFFUSERS_WEIGHTS_NAME,
    "text_encoder": huggingface.WEIGHTS_NAME,
    "vae": huggingface.DIFFUSERS_WEIGHTS_NAME,
}


def export(model: Model, folder: str | Path, dtype: DTypeLike | None = None) -> None:
    """Writes the folder of a diffusers pipeline; see torch_pipeline/README.md for its use.

    Args:
        model: to export.
        folder: to write; an export or a saved model in it is replaced.
        dtype: of the weights; None = as they are.

    Raises:
        FileExistsError: the folder holds something else.
    """
    with saved_model.replace(Path(folder)) as partial:
        saved_model.write_parts(model, partial, dtype)
        for name, place in PLACES.items():
            shutil.copyfile(SOURCES / name, partial / place / name)
        parts = {part: partial / part / name for part, name in WEIGHTS.items()}
        safetensors_files.add_prefix(parts["text_encoder"], OLD_PREFIX)
        safetensors_files.join(parts, partial / SINGLE_FILE)
