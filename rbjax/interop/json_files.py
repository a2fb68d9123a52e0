"""JSON files of a model's folder, which a user may have edited or damaged: errors name the file."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rbjax.storage import StoredPath

CONFIG_NAME = "config.json"  # of diffusers and transformers
INDEX_NAME = "model_index.json"  # of a pipeline of diffusers
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"  # in a pipeline of diffusers
REMEDY = "Correct it, or restore it from a copy"


def read(path: str | StoredPath) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no JSON object.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # the latter: brackets in brackets in ...
        raise ValueError(f"{path} is not JSON: {error}. {REMEDY}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {str(content)[:40]!r} instead of a JSON object. {REMEDY}")
    return content


def read_config(folder: str | Path, required: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the content of `folder/config.json`.

    Raises:
        FileNotFoundError: there is none; for a pipeline's folder it names the parts.
        ValueError: it holds no JSON object, or one without the keys that are required.
    """
    folder = Path(folder)
    if (folder / CONFIG_NAME).is_file():
        content = read(folder / CONFIG_NAME)
        if absent := [key for key in required if key not in content]:
            raise ValueError(f"{folder / CONFIG_NAME} has no {', '.join(absent)}. {REMEDY}")
        return content
    message = f"No {CONFIG_NAME} in {folder}: not a folder of a saved model."
    if any(folder.glob("*.safetensors")):
        message += f" A safetensors file needs the {CONFIG_NAME} of its model beside it."
    if parts := sorted(p.parent.name for p in folder.glob(f"*/{CONFIG_NAME}")):
        message += f" It holds several: load one of {', '.join(parts)} instead."
    raise FileNotFoundError(message)


def class_name(config: dict[str, Any]) -> str | None:
    """Returns the class that a `config.json` names, as diffusers or as transformers write it."""
    return config.get("_class_name") or next(iter(config.get("architectures") or []), None)
