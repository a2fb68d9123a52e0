"""The base model that ships, and saved models that leave out what they have in common with it.

RetriNet trains a part of its Stable Diffusion; the rest stays as it is in rbjax/weights/base. The
index of such a saved model names the base's digest, and its safetensors files hold what differs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rbjax.data import latent_cache
from rbjax.interop import json_files, safetensors_files
from rbjax.interop.safetensors_files import StoredTensor
from rbjax.models.clip_text import OLD_PREFIX

SHIPPED = "shipped"  # `config.pretrained` of the base model in the package
BASE = Path(__file__).parents[1] / "weights" / "base"
RETRINET = BASE.parent / "avatars"  # the saved model that ships, on this base
FIELD = "base"  # of a saved model's index
PARTS = ("retrinet", "text_encoder", "vae")  # of a saved model


def start_folder(init_from: str) -> Path:
    """Returns the folder of `config.init_from`: a saved model, or the one that ships.

    Raises:
        FileNotFoundError: it holds none.
    """
    is_shipped = init_from == SHIPPED
    folder = RETRINET if is_shipped else Path(init_from).expanduser()
    if not (folder / json_files.INDEX_NAME).is_file() or not (folder / "retrinet").is_dir():
        raise FileNotFoundError(
            f"config.init_from={init_from!r} holds no saved model: `python "
            "scripts/export_pytorch.py --format model --checkpoint WORKDIR --out DIR` makes one of "
            'a training; "shipped" is the one of the package'
        )
    return folder


def is_part_of(index: Mapping[str, Any], folder: Path) -> bool:
    """Returns whether the saved model in `folder`, with this index, lacks what the base holds.

    Raises:
        ValueError: it lacks what another base held.
    """
    if FIELD not in index:
        return False
    if index[FIELD] != (here := digest()):
        raise ValueError(
            f"{folder} lacks the weights of the base model {index[FIELD]!r}, and this version of "
            f"rbjax ships {here!r}. Save it whole with the version that it comes from: "
            "scripts/export_pytorch.py --format model"
        )
    return True


def digest() -> str:
    """Returns 16 hexadecimal digits of the SHA-256 of the base's weights."""
    parts = [safetensors_files.files(BASE / name) for name in ("unet", "vae", "text_encoder")]
    return latent_cache.digest(*(path for files in parts for path in files))


def leave_out(folder: Path) -> None:
    """Removes from the files of a saved model the tensors that the base holds too.

    Args:
        folder: a saved model in float16, as the base is: others have no tensor in common with it.

    Raises:
        ValueError: the model has other parts than the base; nothing is changed.
    """
    found = {name: safetensors_files.open_folder(folder / name) for name in PARTS}
    bases = {name: tensors(name) for name in PARTS}
    if strange := [name for name in PARTS if not bases[name].keys() <= found[name].keys()]:
        raise ValueError(f"the model did not start from {BASE}: {', '.join(strange)} differ")
    for name in PARTS:
        own = {
            key: np.asarray(tensor)
            for key, tensor in found[name].items()
            if key not in bases[name] or not _is_same(tensor, bases[name][key])
        }
        [path] = safetensors_files.files(folder / name)
        safetensors_files.save(own, path)
    path = folder / json_files.INDEX_NAME
    index = json_files.read(path) | {FIELD: digest()}
    path.write_text(json.dumps(index, indent=2) + "\n")


def tensors(name: str) -> dict[str, StoredTensor]:
    """Opens the base's tensors under the keys of a saved model's part, one of PARTS."""
    if name != "retrinet":
        found = safetensors_files.open_folder(BASE / name)
        return {key.removeprefix(f"{OLD_PREFIX}."): tensor for key, tensor in found.items()}
    unet = safetensors_files.open_folder(BASE / "unet")
    time = {key: tensor for key, tensor in unet.items() if key.startswith("time_embedding.")}
    return {f"unet.{key}": tensor for key, tensor in unet.items()} | {
        f"retrieval_encoder.{key}": tensor for key, tensor in time.items()
    }


def _is_same(tensor: StoredTensor, other: StoredTensor) -> bool:
    value, expected = np.asarray(tensor), np.asarray(other)
    return value.dtype == expected.dtype and np.array_equal(value, expected)
