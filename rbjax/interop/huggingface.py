"""Weights in the layout of diffusers and transformers: one rule per kind of leaf.

Our modules carry the attribute names of their Hugging Face twins, so a parameter's path is already
its key; only the last name and the axis order differ:

| our module      | our leaf    | key      | axes                          |
| --------------- | ----------- | -------- | ----------------------------- |
| `nnx.Linear`    | `kernel`    | `weight` | `[in, out]` -> `[out, in]`    |
| `nnx.Conv`      | `kernel`    | `weight` | `[H, W, in, out]` -> `[out, in, H, W]` |
| `nnx.Embed`     | `embedding` | `weight` | as it is                      |
| norms           | `scale`     | `weight` | as it is                      |
| any of these    | `bias`      | `bias`   | as it is                      |
| any other       | its name    | its name | as it is (a bare `nnx.Param`) |

The mapping is a bijection: a missing or extra key is an error that lists all such keys. A model
class may have attributes for files that spell or hold more than its parameters: `old_keys` (pairs
of a pattern in older keys and what stands there now), `tied_keys` (key of an alias to the key that
owns the values), `ignored_keys` (endings of buffers' names), `unused_keys` (patterns: a warning).
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.typing import DTypeLike
from tensorflow_datasets.core.utils import incomplete_file

from rbjax.interop import hub_cache, json_files, safetensors_files
from rbjax.interop.safetensors_files import StoredTensor
from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from rbjax.models.blip import BlipConfig, BlipForQuestionAnswering
from rbjax.models.clip_text import CLIPTextConfig, CLIPTextModel
from rbjax.models.clip_vision import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from rbjax.models.dino import DinoConfig, DinoModel
from rbjax.models.params import shapes
from rbjax.models.unet import UNet2DConditionModel
from rbjax.models.unet_config import UNetConfig
from rbjax.parallel import rules

WEIGHTS_NAME = "model.safetensors"  # of transformers
DIFFUSERS_WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
Module, Settings = Callable[[Any, nnx.Rngs], nnx.Module], Callable[[dict[str, Any]], Any]
MODELS: dict[str, tuple[Module, Settings]] = {  # class name in a config.json -> its two readers
    "UNet2DConditionModel": (UNet2DConditionModel, UNetConfig.from_dict),
    "AutoencoderKL": (AutoencoderKL, AutoencoderKLConfig.from_dict),
    "CLIPTextModel": (CLIPTextModel, CLIPTextConfig.from_dict),
    "CLIPVisionModelWithProjection": (CLIPVisionModelWithProjection, CLIPVisionConfig.from_dict),
    "CLIPModel": (CLIPModel, CLIPConfig.from_dict),
    "BlipForQuestionAnswering": (BlipForQuestionAnswering, BlipConfig.from_dict),
    **dict.fromkeys(("ViTModel", "Dinov2Model"), (DinoModel, DinoConfig.from_dict)),
}
MODEL_TYPES = {  # `model_type` where a config.json names no class
    "clip_text_model": "CLIPTextModel",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "clip": "CLIPModel",
    "blip": "BlipForQuestionAnswering",
}
Tensor = np.ndarray | StoredTensor  # in memory, or in a file
_RENAMED = {  # leaf -> the modules of which it is called `weight`
    "kernel": (nnx.Linear, nnx.Conv),
    "embedding": (nnx.Embed,),
    "scale": (nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.BatchNorm),
}


def load(
    path: str | Path, dtype: DTypeLike | None = None, mesh: jax.sharding.Mesh | None = None
) -> nnx.Module:
    """Builds the module that a folder holds and reads its weights, one tensor at a time.

    Args:
        path: folder with `config.json` and safetensors (one file or shards), e.g. `sd15/unet`; or
            one safetensors file beside its `config.json`.
        dtype: of the parameters; None keeps that of each tensor in the file. The computation is in
            float32 either way (BLIP's: in the parameters' dtype).
        mesh: places each tensor by the table of parallel/rules.py; None takes the default device.

    Returns:
        One of MODELS, called as in diffusers and transformers, but channels last.

    Raises:
        FileNotFoundError: no config or weights there; pickles (`.bin`, `.ckpt`) are never read.
        ValueError: a class or feature that is not supported, or keys that do not fit (all named).
    """
    path = hub_cache.model_folder(Path(path))
    if path.suffix in (".safetensors", *safetensors_files.PICKLES):
        tensors = safetensors_files.open_file(path)
        model = build(json_files.read_config(path.parent), path.parent)
    else:
        model = build(json_files.read_config(path), path)
        tensors = safetensors_files.open_folder(path)
    _fill(model, tensors, lambda param, value: np.asarray(value, dtype), source=path, mesh=mesh)
    return model


def build(config: dict[str, Any], where: str | Path = json_files.CONFIG_NAME) -> nnx.Module:
    """Builds the module of a `config.json` without weights (abstract parameters).

    Raises:
        ValueError: the class or a feature is not supported; `where` is named.
    """
    kind = config.get("model_type", "")
    name = json_files.class_name(config) or MODEL_TYPES.get(kind, kind)
    if name not in MODELS:
        raise ValueError(f"{where} holds a {name!r}; supported are {', '.join(MODELS)}.")
    module, read_settings = MODELS[name]
    try:
        settings = read_settings(config)
        return shapes(lambda rngs: module(settings, rngs))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def fill(
    model: nnx.Module,
    folder: str | Path,
    mesh: jax.sharding.Mesh | None = None,
    others: Mapping[str, Tensor] | None = None,
) -> None:
    """Reads a folder's weights into `model` (abstract or not), cast to its parameters' dtypes.

    Args:
        model: to fill; every key must match.
        folder: with the weights.
        mesh: see `load`.
        others: tensors of keys that the folder lacks.

    Raises:
        FileNotFoundError, ValueError: see `load`.
    """
    tensors = dict(others or {}) | safetensors_files.open_folder(Path(folder))
    _fill(model, tensors, _as_parameter, source=folder, mesh=mesh)


def save(
    model: nnx.Module,
    folder: str | Path,
    config: dict[str, Any] | None = None,
    *,
    name: str | None = None,
    dtype: DTypeLike | None = None,
) -> None:
    """Writes `folder/config.json` and the weights, as diffusers and transformers read them.

    Files of the same names are replaced when both are complete; others stay.

    Args:
        model: to save.
        folder: made if it is not there.
        config: content of `config.json`; None takes that of the model's settings.
        name: of the weights' file; None takes the name that the class has upstream.
        dtype: of the tensors; None keeps theirs.
    """
    (folder := Path(folder)).mkdir(parents=True, exist_ok=True)
    if config is None:
        config = model.config.to_dict()  # pyrefly: ignore[missing-attribute]  as all of MODELS have
    name = name or (DIFFUSERS_WEIGHTS_NAME if "_class_name" in config else WEIGHTS_NAME)
    weights_file, config_file = (epath.Path(folder) / n for n in (name, json_files.CONFIG_NAME))
    with incomplete_file(weights_file) as weights, incomplete_file(config_file) as settings:
        safetensors_files.save(state_dict(model), Path(weights), dtype)
        settings.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def state_dict(model: nnx.Module) -> dict[str, np.ndarray]:
    """Returns the parameters on the host under their torch names and in their torch axis order."""
    return {
        key: _to_torch(np.asarray(jax.device_get(param.get_value())), kernel)
        for key, (_, param, kernel) in _parameters(model).items()
    }


def load_state_dict(
    model: nnx.Module, tensors: Mapping[str, np.ndarray], *, strict: bool = True
) -> tuple[list[str], list[str]]:
    """Writes torch-style tensors into the parameters of `model`, cast to their dtypes.

    Args:
        model: the module to fill; it is changed only if nothing is wrong.
        tensors: arrays by key, as `state_dict` returns or a safetensors file holds them.
        strict: whether a missing or unexpected key is an error. A wrong shape always is.

    Returns:
        The missing and the unexpected keys (both empty if `strict`).

    Raises:
        ValueError: names every missing, unexpected and misshapen key.
    """
    return _fill(model, tensors, _as_parameter, strict=strict)


def _as_parameter(param: nnx.Param, value: Tensor) -> np.ndarray:
    return np.asarray(value).astype(param.dtype, copy=False)


def _fill(
    model: nnx.Module,
    tensors: Mapping[str, Tensor],
    read: Callable[[nnx.Param, Tensor], np.ndarray],
    *,
    source: str | Path = "tensors",
    mesh: jax.sharding.Mesh | None = None,
    strict: bool = True,
) -> tuple[list[str], list[str]]:
    """Checks all keys and shapes, then reads tensor by tensor; errors name `source`."""
    tensors = _without_aliases(model, _renamed(model, tensors, source), source)
    parameters = _parameters(model)
    missing = sorted(parameters.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - parameters.keys())
    misshapen = [
        f"{key} (file {tuple(tensors[key].shape)}, model {_torch_shape(param.shape, kernel)})"
        for key, (_, param, kernel) in parameters.items()
        if key in tensors and tuple(tensors[key].shape) != _torch_shape(param.shape, kernel)
    ]
    patterns = () if missing else getattr(model, "unused_keys", ())
    unused = [key for key in unexpected if any(re.search(pattern, key) for pattern in patterns)]
    unexpected = [key for key in unexpected if key not in unused]
    extra = {"missing": missing, "unexpected": unexpected} if strict else {}
    wrong = {"misshapen": misshapen} | extra
    if found := [f"  {kind} ({len(k)}): {', '.join(k)}" for kind, k in wrong.items() if k]:
        raise ValueError(
            f"{source}: the weights do not fit the {type(model).__name__} of the configuration. "
            "Take both from one model:\n" + "\n".join(found)
        )
    if unused:
        warnings.warn(f"{source}: no use for {', '.join(unused)}: not read.", stacklevel=3)
    for key, (path, param, kernel) in parameters.items():
        if key in tensors:
            param.set_value(_place(path, _from_torch(read(param, tensors[key]), kernel), mesh))
    return missing, unexpected


def _place(path: str, value: np.ndarray, mesh: jax.sharding.Mesh | None) -> jax.Array:
    """Puts it on the default device, or into the shards that the rules give this path."""
    if mesh is None:
        return jax.device_put(np.array(value, order="C"))
    sharding = jax.sharding.NamedSharding(mesh, rules.spec(path, value.shape, mesh))
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def _parameters(model: nnx.Module) -> dict[str, tuple[str, nnx.Param, bool]]:
    """Returns (path with "/", parameter, whether its axes are those of a kernel) by key."""
    found = {}
    for path, module in nnx.iter_modules(model):
        for name, value in vars(module).items():
            if not isinstance(value, nnx.Param) or value.get_value() is None:
                continue
            renamed = isinstance(module, _RENAMED.get(name, ()))
            key = ".".join(map(str, (*path, "weight" if renamed else name)))
            found[key] = "/".join(map(str, (*path, name))), value, renamed and name == "kernel"
    return found


def _to_torch(value: np.ndarray, kernel: bool) -> np.ndarray:
    """Moves the two last axes (in, out) of a kernel to the front as (out, in)."""
    return np.moveaxis(value, (-1, -2), (0, 1)) if kernel else value


def _from_torch(value: np.ndarray, kernel: bool) -> np.ndarray:
    return np.moveaxis(value, (0, 1), (-1, -2)) if kernel else value


def _torch_shape(shape: tuple[int, ...], kernel: bool) -> tuple[int, ...]:
    return (shape[-1], shape[-2], *shape[:-2]) if kernel else tuple(shape)


def _renamed(
    model: nnx.Module, tensors: Mapping[str, Tensor], source: str | Path
) -> dict[str, Tensor]:
    """Returns the tensors under today's keys; raises ValueError for two that would have one."""

    def current(key: str) -> str:
        for pattern, replacement in getattr(model, "old_keys", ()):
            key = re.sub(pattern, replacement, key)
        return key

    if twice := sorted(key for key in tensors if current(key) != key and current(key) in tensors):
        names = f"the weights hold keys under their old and new name: {', '.join(twice)}"
        raise ValueError(f"{source}: {names}. Remove one of the two")
    return {current(key): value for key, value in tensors.items()}


def _without_aliases(
    model: nnx.Module, tensors: dict[str, Tensor], source: str | Path
) -> dict[str, Tensor]:
    """Drops buffers and tied copies; a copy that differs from its owner is an error."""
    ignored = tuple(getattr(model, "ignored_keys", ()))
    tensors = {key: value for key, value in tensors.items() if not key.endswith(ignored or "\0")}
    tied = getattr(model, "tied_keys", {}).items()
    for alias, owner in ((a, o) for a, o in tied if a in tensors):
        copy = tensors.pop(alias)
        if not np.array_equal(np.asarray(tensors.setdefault(owner, copy)), np.asarray(copy)):
            message = f"{alias} is tied to {owner}, but the values differ. Remove one of the two"
            raise ValueError(f"{source}: {message}")
    return tensors
