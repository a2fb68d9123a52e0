"""Settings of models as the config files of diffusers and transformers hold them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

OURS = ("dtype", "remat")  # fields about the computation, which are never read from a file


def known_fields(kind: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a config file that are fields of a dataclass, lists as tuples."""
    names = {field.name for field in dataclasses.fields(kind)}.difference(OURS)
    known = {name: value for name, value in config.items() if name in names}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}


def file_fields(settings: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass instance that belong in a config file."""
    names = [f.name for f in dataclasses.fields(settings) if f.name not in OURS]
    return {name: getattr(settings, name) for name in names}
