"""Parts of an experiment's `model` section, from settings that a part's `config.json` holds."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rbjax.models.autoencoder_kl import AutoencoderKLConfig
from rbjax.models.clip_text import CLIPTextConfig
from rbjax.models.config_files import OURS
from rbjax.models.unet_config import UNetConfig


def part(
    settings: UNetConfig | AutoencoderKLConfig | CLIPTextConfig, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the fields of a part; what concerns the computation (`dtype`, `remat`) from `own`."""
    kept = {name: own[name] for name in OURS if name in own and hasattr(settings, name)}
    return dataclasses.asdict(settings) | {"dtype": "float32"} | kept
