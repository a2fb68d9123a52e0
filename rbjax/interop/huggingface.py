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
class may have two attributes for files that hold more than the parameters do: `tied_keys` (a dict
from the key of an alias to the key that owns the values) and `ignored_keys` (endings of buffer
names that older files hold).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file, save_file

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
_NORMS = (nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.BatchNorm)
_LEAF_NAMES = (
    (nnx.Linear, "kernel"),
    (nnx.Conv, "kernel"),
    (nnx.Embed, "embedding"),
    (_NORMS, "scale"),
)


def state_dict(model: nnx.Module) -> dict[str, np.ndarray]:
    """Returns the parameters on the host under their torch names and in their torch axis order."""
    return {
        key: _to_torch(np.asarray(jax.device_get(param.get_value())), kernel)
        for key, param, kernel in _parameters(model)
    }


def load_state_dict(
    model: nnx.Module, tensors: Mapping[str, np.ndarray], strict: bool = True
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
    tensors = _without_aliases(model, tensors)
    parameters = {key: (param, kernel) for key, param, kernel in _parameters(model)}
    missing = sorted(parameters.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - parameters.keys())
    misshapen = [
        f"{key} (file {tuple(tensors[key].shape)}, model {_torch_shape(param.shape, kernel)})"
        for key, (param, kernel) in parameters.items()
        if key in tensors and tuple(tensors[key].shape) != _torch_shape(param.shape, kernel)
    ]
    wrong = {"misshapen": misshapen}
    if strict:
        wrong |= {"missing": missing, "unexpected": unexpected}
    _raise_if_any(type(model).__name__, wrong)
    for key, (param, kernel) in parameters.items():
        if key in tensors:
            value = _from_torch(np.asarray(tensors[key]), kernel)
            param.set_value(jnp.asarray(value, dtype=param.dtype))
    return missing, unexpected


def save(
    model: nnx.Module,
    config: dict,
    folder: str | Path,
    name: str = WEIGHTS_NAME,
    dtype: np.dtype | None = None,
) -> None:
    """Writes `folder/config.json` and the weights as `folder/name` (as `dtype` if given)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = state_dict(model)
    if dtype is not None:
        tensors = {key: value.astype(dtype) for key, value in tensors.items()}
    tensors = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(tensors, folder / name, metadata={"format": "pt"})
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(model: nnx.Module, folder: str | Path, name: str = WEIGHTS_NAME) -> None:
    """Fills `model` from the safetensors file `folder/name`; every key must match.

    Raises:
      FileNotFoundError: the file is not there. Pickled weights (`.bin`) are never read.
      ValueError: see `load_state_dict`.
    """
    path = Path(folder) / name
    if not path.is_file():
        found = (
            sorted(p.name for p in Path(folder).glob("*")) if Path(folder).is_dir() else "no folder"
        )
        raise FileNotFoundError(
            f"No weights at {path} (found: {found}). "
            "Only safetensors are read: convert a .bin file first."
        )
    load_state_dict(model, load_file(path))


def load_config(folder: str | Path) -> dict:
    """Returns the content of `folder/config.json`; raises FileNotFoundError if there is none."""
    path = Path(folder) / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"No {CONFIG_NAME} in {folder}: not a folder of a saved model.")
    return json.loads(path.read_text())


def _parameters(model: nnx.Module) -> Iterator[tuple[str, nnx.Param, bool]]:
    """Yields (key, parameter, whether its axes are those of a kernel) in a stable order."""
    for path, module in nnx.iter_modules(model):
        for name, value in vars(module).items():
            if not isinstance(value, nnx.Param) or value.get_value() is None:
                continue
            renamed = any(isinstance(module, kind) and name == leaf for kind, leaf in _LEAF_NAMES)
            key = ".".join(map(str, (*path, "weight" if renamed else name)))
            yield key, value, renamed and name == "kernel"


def _to_torch(value: np.ndarray, kernel: bool) -> np.ndarray:
    """Moves the two last axes (in, out) of a kernel to the front as (out, in)."""
    return np.moveaxis(value, (-1, -2), (0, 1)) if kernel else value


def _from_torch(value: np.ndarray, kernel: bool) -> np.ndarray:
    return np.moveaxis(value, (0, 1), (-1, -2)) if kernel else value


def _torch_shape(shape: tuple[int, ...], kernel: bool) -> tuple[int, ...]:
    return (shape[-1], shape[-2], *shape[:-2]) if kernel else tuple(shape)


def _without_aliases(model: nnx.Module, tensors: Mapping) -> dict[str, np.ndarray]:
    """Drops buffers and tied copies; a copy that differs from its owner is an error."""
    ignored = tuple(getattr(model, "ignored_keys", ()))
    tensors = {key: value for key, value in tensors.items() if not key.endswith(ignored or "\0")}
    for alias, owner in getattr(model, "tied_keys", {}).items():
        if alias not in tensors:
            continue
        copy = tensors.pop(alias)
        if not np.array_equal(tensors.setdefault(owner, copy), copy):
            raise ValueError(
                f"{alias} is tied to {owner}, but the file holds different values for the two."
            )
    return tensors


def _raise_if_any(model: str, wrong: dict[str, list[str]]) -> None:
    found = {kind: keys for kind, keys in wrong.items() if keys}
    if found:
        lines = [f"  {kind} ({len(keys)}): {', '.join(keys)}" for kind, keys in found.items()]
        raise ValueError(f"The weights do not fit {model}:\n" + "\n".join(lines))
