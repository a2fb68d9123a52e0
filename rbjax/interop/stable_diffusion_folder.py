"""Writes a folder of Stable Diffusion in diffusers' format: autoencoder, text encoder, UNet.

What `rbjax/interop/stable_diffusion.py` reads, and `diffusers.StableDiffusionPipeline` too, where
neither rbjax nor jax is installed.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import tokenizers
from jax.typing import DTypeLike

from rbjax.diffusion.schedule import Schedule
from rbjax.interop import huggingface, json_files, safetensors_files, saved_model
from rbjax.models.autoencoder_kl import AutoencoderKL
from rbjax.models.clip_text import OLD_PREFIX, CLIPTextModel
from rbjax.models.unet import UNet2DConditionModel

INDEX_NAME = json_files.INDEX_NAME
INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def save(
    folder: Path,
    *,
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    tokenizer: tokenizers.Tokenizer,
    schedule: Schedule,
    dtype: DTypeLike | None = None,
) -> None:
    """Writes the folder; files of the same names are replaced.

    Args:
        folder: made if it is not there.
        autoencoder: written to `vae/`.
        text_encoder: written to `text_encoder/`.
        unet: written to `unet/`.
        tokenizer: of the prompts.
        schedule: of the noise; written as diffusers' DDIMScheduler.
        dtype: of the weights, None = as they are.

    Raises:
        ValueError: diffusers' DDIMScheduler has no such schedule.
    """
    if schedule.is_flow:
        raise ValueError("diffusers' DDIMScheduler has no rectified flow: use another schedule")
    huggingface.save(autoencoder, folder / "vae", dtype=dtype)
    huggingface.save(unet, folder / "unet", dtype=dtype)
    text = text_encoder.config.to_dict() | saved_model.special_ids(tokenizer)
    huggingface.save(text_encoder, folder / "text_encoder", text, dtype=dtype)
    weights = folder / "text_encoder" / huggingface.WEIGHTS_NAME
    safetensors_files.add_prefix(weights, OLD_PREFIX)  # transformers 4 knows no other keys
    length = text_encoder.config.max_position_embeddings
    saved_model.save_tokenizer(tokenizer, folder / "tokenizer", length=length)
    fields = dataclasses.asdict(schedule)
    scheduler = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": fields.pop("betas"),
        **fields,
        "clip_sample": False,  # the default clips latents to [-1, 1]
    }
    for path, content in ((json_files.SCHEDULER_CONFIG, scheduler), (INDEX_NAME, INDEX)):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content, indent=2) + "\n")
