"""Stable Diffusion's weights as the start of an experiment (`config.pretrained`).

The folder is one of diffusers': `unet/`, `vae/`, `text_encoder/`, `tokenizer/` and, optional,
`scheduler/`. Its `config.json` files become the experiment's `model` section; its weights are read
tensor by tensor into their shards. Only the conjunctions start fresh.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import tokenizers
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from rbjax.diffusion.schedule import Schedule
from rbjax.interop import (
    hub_cache,
    huggingface,
    json_files,
    model_section,
    safetensors_files,
    shipped_base,
)
from rbjax.models import params as params_lib
from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from rbjax.models.clip_text import CLIPTextConfig
from rbjax.models.pipeline import Pipeline, abstract_pipeline, retrinet_config
from rbjax.models.retrinet import make_conjunctions
from rbjax.models.unet_config import UNetConfig
from rbjax.parallel import rules
from rbjax.text import tokenizer as tokenizer_lib

MODELS = ("unet", "vae", "text_encoder")  # parts with a config.json and weights
_Settings = TypeVar("_Settings", UNetConfig, AutoencoderKLConfig, CLIPTextConfig)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The settings of a folder's models."""

    unet: UNetConfig
    vae: AutoencoderKLConfig
    text_encoder: CLIPTextConfig


@dataclasses.dataclass(frozen=True)
class StableDiffusion:
    """A folder of Stable Diffusion that fits an experiment; `read` makes it.

    Attributes:
        folder: in diffusers' format.
        config: the experiment's configuration, completed by the folder. Its `model` section holds
            the folder's settings (and of its own the dtypes, `remat` and `retrieval`); empty
            fields of `noise_schedule` are those of the folder's scheduler.
        tokenizer: the folder's; prompts over `data.max_tokens` are cut with a warning.
    """

    folder: pathlib.Path
    config: ConfigDict
    tokenizer: tokenizers.Tokenizer

    def load_params(self, mesh: jax.sharding.Mesh) -> params_lib.Tree:
        """Reads the parameters of a pipeline, float32, from the folder into their shards.

        The retrieval encoder is a copy of the UNet's encoder; the conjunctions are initialised
        from `config.seed`.

        Args:
            mesh: to place on.

        Raises:
            FileNotFoundError, ValueError: weights are missing or do not fit; see
                interop/huggingface.py.
        """
        pipeline = self._filled(mesh)
        assert isinstance(pipeline.autoencoder, AutoencoderKL)
        huggingface.fill(pipeline.autoencoder, self.folder / "vae", mesh=mesh)
        pipeline.retrinet.copy_encoder()
        params = nnx.to_pure_dict(nnx.state(pipeline, nnx.Param))
        params["retrinet"]["conjunctions"] = _init_conjunctions(self.config, mesh)
        return params

    def load_text_to_image(self, mesh: jax.sharding.Mesh) -> params_lib.Tree:
        """Reads the parameters of text encoder and UNet alone, named as in a pipeline."""
        pipeline = self._filled(mesh)
        parts = {"text_encoder": pipeline.text_encoder, "unet": pipeline.retrinet.unet}
        found = {name: nnx.to_pure_dict(nnx.state(m, nnx.Param)) for name, m in parts.items()}
        return {"text_encoder": found["text_encoder"], "retrinet": {"unet": found["unet"]}}

    def _filled(self, mesh: jax.sharding.Mesh) -> Pipeline:
        """Returns a pipeline of shapes, of which text encoder and UNet are read."""
        pipeline = abstract_pipeline(self.config, self.tokenizer)
        huggingface.fill(pipeline.text_encoder, self.folder / "text_encoder", mesh=mesh)
        huggingface.fill(pipeline.retrinet.unet, self.folder / "unet", mesh=mesh)
        return pipeline


def read(config: ConfigDict) -> StableDiffusion:
    """Reads the folder of `config.pretrained`, all but its weights.

    Raises:
        FileNotFoundError: not a folder of diffusers, or parts, weights or the tokenizer's files
            are missing.
        ValueError: parts or settings do not fit each other, or are not supported.
    """
    is_shipped = config.pretrained == shipped_base.SHIPPED
    folder = shipped_base.BASE if is_shipped else pathlib.Path(config.pretrained).expanduser()
    folder = hub_cache.model_folder(folder)
    parts = _read_parts(folder)
    for name in MODELS:
        safetensors_files.open_folder(folder / name)  # raises before a data set is built
    _check_fit(parts, config)
    resolved = with_parts(config, parts)
    with resolved.unlocked(), resolved.ignore_type():
        resolved.noise_schedule = ConfigDict(noise_schedule(folder, config.noise_schedule))
    if config.train.target == "base":
        _check_teacher(folder, resolved)
    tokenizer = _read_tokenizer(folder / "tokenizer", config.data.max_tokens, parts.text_encoder)
    return StableDiffusion(folder, resolved, tokenizer)


def _check_teacher(folder: pathlib.Path, config: ConfigDict) -> None:
    """Raises ValueError where the folder's model, a teacher, was trained with another noise."""
    path = folder / json_files.SCHEDULER_CONFIG
    if path.is_file():
        theirs = noise_schedule(folder, ConfigDict())
        wrong = [name for name in theirs if config.noise_schedule[name] != theirs[name]]
        reason = f"is another than {path} says: leave {', '.join(wrong)} empty" if wrong else ""
    else:
        reason = f"cannot be compared: there is no {path}"
    if reason:
        raise ValueError(
            "config.train.target='base': the noise of the base model, which is to teach, has to be "
            f"that of the training, but config.noise_schedule {reason}"
        )


def with_parts(config: ConfigDict, parts: Parts) -> ConfigDict:
    """Returns the configuration with models of these sizes, and its own dtypes and `remat`."""
    resolved = config.copy_and_resolve_references()
    model, own = resolved.model, config.model
    with resolved.unlocked(), resolved.ignore_type():
        model.patch = 0
        model.unet = ConfigDict(model_section.part(parts.unet, own.unet))
        model.vae = ConfigDict(model_section.part(parts.vae, own.vae))
        model.text = ConfigDict(model_section.part(parts.text_encoder, own.text))
    return resolved


def noise_schedule(folder: pathlib.Path, own: ConfigDict) -> dict[str, Any]:
    """Returns the folder's noise schedule, except where the config's fields are not empty.

    Warns of every field in which the two differ; the config's value holds. Without a scheduler
    in the folder the values are those of SD 1.5.

    Raises:
        ValueError: the scheduler's file is damaged, or its noise is not supported.
    """
    path = folder / json_files.SCHEDULER_CONFIG
    found = json_files.read(path) if path.is_file() else None
    try:
        theirs = dataclasses.asdict(Schedule.from_config(found) if found else Schedule())
    except ValueError as error:
        raise ValueError(f"config.pretrained: {path}: {error}") from error
    chosen = {name: value for name, value in own.items() if value != ""}
    for name, value in chosen.items():
        if found and theirs[name] != value:
            logging.warning(
                "config.noise_schedule.%s=%r, but the weights were trained with %r (%s). The "
                'configuration holds; "" takes the folder\'s value.',
                *(name, value, theirs[name], path),
            )
    return theirs | chosen


def _read_parts(folder: pathlib.Path) -> Parts:
    """Reads the `config.json` files of a folder.

    Raises:
        FileNotFoundError: parts are missing; it names all of them.
        ValueError: a part is another model, or has a feature that is not supported.
    """
    if folder.is_file():
        raise ValueError(
            f"config.pretrained={str(folder)!r} is one file; a folder in diffusers' format is "
            f"needed. {safetensors_files.single_file_conversion(folder)}"
        )
    if not folder.is_dir():
        raise FileNotFoundError(
            f"config.pretrained={str(folder)!r} is no folder here: nothing is downloaded, give the "
            "path of Stable Diffusion in diffusers' format (a run that goes on takes it at any "
            "place; what it trained needs no folder to generate, be evaluated or exported)"
        )
    missing = [n for n in MODELS if not (folder / n / json_files.CONFIG_NAME).is_file()]
    if not (folder / "tokenizer").is_dir():
        missing.append("tokenizer")
    if (folder / "retrinet").is_dir():
        raise FileNotFoundError(
            f"config.pretrained={str(folder)!r} holds a RetriNet: give the folder of Stable "
            "Diffusion that it started from, and the RetriNet as config.init_from"
        )
    if missing:
        raise FileNotFoundError(
            f"config.pretrained={str(folder)!r} is not a folder of Stable Diffusion in diffusers' "
            f"format: {', '.join(missing)} missing"
        )
    return Parts(
        unet=_read_part(folder / "unet", "UNet2DConditionModel", UNetConfig.from_dict),
        vae=_read_part(folder / "vae", "AutoencoderKL", AutoencoderKLConfig.from_dict),
        text_encoder=_read_part(folder / "text_encoder", "CLIPTextModel", CLIPTextConfig.from_dict),
    )


def _read_part(
    folder: pathlib.Path, kind: str, from_dict: Callable[[dict[str, Any]], _Settings]
) -> _Settings:
    config = json_files.read_config(folder)
    found = json_files.class_name(config) or kind
    if found != kind:
        raise ValueError(
            f"config.pretrained: {folder} holds a {found}, not a {kind}: this is no "
            "Stable Diffusion 1.x or 2.x"
        )
    try:
        return from_dict(config)
    except ValueError as error:
        raise ValueError(f"config.pretrained: {folder}: {error}") from error


def _check_fit(parts: Parts, config: ConfigDict) -> None:
    """Raises ValueError, with all reasons, where parts or settings do not fit each other."""
    unet, vae, text = parts.unet, parts.vae, parts.text_encoder
    wrong = []
    if unet.cross_attention_dim != text.hidden_size:
        wrong.append(
            f"unet/ reads text states of width {unet.cross_attention_dim}, but text_encoder/ "
            f"writes {text.hidden_size}: parts of different models (SD 1.x has 768, SD 2.x 1024)"
        )
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        wrong.append(
            f"unet/ has {unet.in_channels} channels in and {unet.out_channels} out, vae/ has "
            f"{vae.latent_channels} latent channels: they must be equal (inpainting and "
            "upscaling models are not supported)"
        )
    if config.data.max_tokens > text.max_position_embeddings:
        wrong.append(
            f"config.data.max_tokens={config.data.max_tokens}: text_encoder/ takes at most "
            f"{text.max_position_embeddings}"
        )
    if config.data.size % vae.factor:
        wrong.append(
            f"config.data.size={config.data.size} is not a multiple of vae/'s {vae.factor} pixels"
        )
    if params_lib.matches("autoencoder/encoder/conv_in/kernel", config.train.trained):
        wrong.append("config.train.trained includes the autoencoder, which has to stay as it is")
    if wrong:
        raise ValueError(f"config.pretrained={config.pretrained!r}:\n  " + "\n  ".join(wrong))


def _read_tokenizer(
    folder: pathlib.Path, max_tokens: int, text: CLIPTextConfig
) -> tokenizers.Tokenizer:
    """Reads the folder's tokenizer; raises ValueError if the text encoder has fewer tokens."""
    tokenizer = tokenizer_lib.read_pretrained(folder, max_tokens)
    if tokenizer.get_vocab_size() > text.vocab_size:
        raise ValueError(
            f"config.pretrained: {folder} has {tokenizer.get_vocab_size()} tokens, text_encoder/ "
            f"only {text.vocab_size}: parts of different models"
        )
    return tokenizer


def _init_conjunctions(config: ConfigDict, mesh: jax.sharding.Mesh) -> params_lib.Tree:
    def init() -> params_lib.Tree:
        conjunctions = make_conjunctions(retrinet_config(config.model), nnx.Rngs(config.seed))
        return nnx.to_pure_dict(nnx.state(conjunctions, nnx.Param))

    return jax.jit(init, out_shardings=rules.shardings(jax.eval_shape(init), mesh))()
