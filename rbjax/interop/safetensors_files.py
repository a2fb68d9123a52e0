"""Safetensors files of one model: one file, or shards with an index, read one tensor at a time."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rbjax.interop import json_files

STEMS = ("diffusion_pytorch_model", "model")  # of diffusers, of transformers
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
ENDINGS = (  # in the order in which they are tried
    ".safetensors",
    ".safetensors.index.json",
    ".fp16.safetensors",
    ".safetensors.index.fp16.json",
    ".bf16.safetensors",
    ".safetensors.index.bf16.json",
)
FLOATS = ("F64", "F32", "F16", "BF16")
ORIGINAL = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")  # keys' starts
LFS_POINTER = b"version https://git-lfs"


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: `np.asarray` reads it; ValueError if it is not in floating point.

    The file is opened for each tensor, so that what was read before does not stay mapped.
    """

    path: Path
    key: str
    shape: tuple[int, ...]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        with safe_open(self.path, "numpy") as file:
            stored = file.get_slice(self.key).get_dtype()
            if stored not in FLOATS:
                raise ValueError(
                    f"{self.path}: {self.key} is stored as {stored}. Quantised weights are not "
                    f"read; take a file with {', '.join(FLOATS)}."
                )
            return np.asarray(file.get_tensor(self.key), dtype)


def open_folder(folder: Path) -> dict[str, StoredTensor]:
    """Opens the tensors of a model's folder, without reading their values.

    Args:
        folder: with one safetensors file, or shards and their `.safetensors.index.json`, under
            diffusers' or transformers' name; else those of their variants fp16 or bf16.

    Raises:
        FileNotFoundError: no such file; it lists what is there. Pickles are never read.
        ValueError: a file is damaged or in the original layout of Stable Diffusion, or an index and
            its shards disagree.
    """
    path = _find(folder)
    return _open_index(path) if path.suffix == ".json" else open_file(path)


def files(folder: Path) -> list[Path]:
    """Returns the files that `open_folder` reads; raises as it does."""
    path = _find(folder)
    shards = {tensor.path for tensor in open_folder(folder).values()}
    return sorted({path, *shards})


def open_file(path: Path) -> dict[str, StoredTensor]:
    """Opens the tensors of one safetensors file, without their values; raises as `open_folder`."""
    if path.suffix in PICKLES:
        raise ValueError(f"{path} is a pickle. {_conversion(path.parent)}")
    if not path.is_file():
        raise FileNotFoundError(f"No file {path}")
    try:
        with safe_open(path, "numpy") as file:
            tensors = {
                key: StoredTensor(path, key, tuple(file.get_slice(key).get_shape()))
                for key in file.keys()  # noqa: SIM118  the file is no mapping
            }
    except SafetensorError as error:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ValueError(
                    f"{path} is a pointer of Git LFS, not the weights: run `git lfs pull` there"
                ) from error
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    if found := [key for key in tensors if key.startswith(ORIGINAL)]:
        raise ValueError(
            f"{path} is a checkpoint in the original layout of Stable Diffusion (key {found[0]}). "
            f"{single_file_conversion(path)}"
        )
    return tensors


def single_file_conversion(path: Path) -> str:
    """Returns how to make diffusers' folder of a file that holds all parts."""
    return (
        "Convert it once, in an environment with torch and diffusers: "
        f"StableDiffusionPipeline.from_single_file({str(path)!r}).save_pretrained(DIR) writes a "
        "folder of safetensors."
    )


def save(tensors: Mapping[str, np.ndarray], path: Path, dtype: DTypeLike | None = None) -> None:
    """Writes one file, as torch reads it; values as `dtype`, None keeps theirs."""
    values = {key: np.asarray(value, dtype, order="C") for key, value in tensors.items()}
    path.touch()
    mode = path.stat().st_mode  # as the user has it; safetensors makes files that nobody else reads
    save_file(values, path, metadata={"format": "pt"})
    path.chmod(mode)


def join(files: Mapping[str, Path], path: Path) -> None:
    """Writes one file of several; a key starts with the name of its part and a dot.

    The values are copied from file to file, so that nothing has to fit into memory once more.
    """
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    length, starts = 0, []
    for part, source in files.items():
        start, tensors = _header(source)
        starts.append(start)
        for key, tensor in tensors.items():
            offsets = [length + offset for offset in tensor["data_offsets"]]
            header[f"{part}.{key}"] = tensor | {"data_offsets": offsets}
        length += source.stat().st_size - start
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # values are aligned
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for start, source in zip(starts, files.values(), strict=True):
            with source.open("rb") as file:
                file.seek(start)
                shutil.copyfileobj(file, out, 2**24)


def add_prefix(path: Path, prefix: str) -> None:
    """Puts a name and a dot in front of every key of a file, which is replaced."""
    renamed = path.with_name(f"{path.name}.renamed")
    join({prefix: path}, renamed)
    renamed.replace(path)


def _header(path: Path) -> tuple[int, dict[str, dict]]:
    """Reads where the values of a file start, and type, shape and offsets by key."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(size))
    tensors.pop("__metadata__", None)
    return 8 + size, tensors


def _find(folder: Path) -> Path:
    for path in (folder / (stem + ending) for ending in ENDINGS for stem in STEMS):
        if path.is_file():
            return path
    found = sorted(p.name for p in folder.glob("*")) if folder.is_dir() else "no folder"
    hint = ""
    if folder.is_dir() and any(p.suffix in PICKLES for p in folder.glob("*")):
        hint = f" {_conversion(folder)}"
    raise FileNotFoundError(f"No weights at {folder} (found: {found}).{hint}")


def _conversion(folder: Path) -> str:
    return (
        "Only safetensors are read, because a pickle can run any code. In an environment with "
        f"torch, convert it once: model.from_pretrained({str(folder)!r}).save_pretrained(OUT) of "
        "diffusers or transformers writes safetensors."
    )


def _open_index(path: Path) -> dict[str, StoredTensor]:
    places = json_files.read(path).get("weight_map")
    if not places:
        raise ValueError(f"{path} has no weight_map: not an index of shards")
    tensors = {}
    for shard in sorted(set(places.values())):
        if not (path.parent / shard).is_file():
            raise FileNotFoundError(f"{path} names the shard {shard}, which is not beside it")
        tensors |= open_file(path.parent / shard)
    absent = sorted(places.keys() - tensors.keys())
    if absent:
        raise ValueError(f"{path} promises tensors that no shard holds: {', '.join(absent)}")
    return tensors
