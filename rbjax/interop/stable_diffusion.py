"""Stable Diffusion's weights as the start of an experiment (`config.pretrained`).

The folder is one of diffusers': `unet/`, `vae/`, `text_encoder/`, `tokenizer/` and, optional,
`scheduler/`. Its `config.json` files become the experiment's `model` section; its weights are read
tensor by tensor into their shards. Only the conjunctions start fresh.
"""

import dataclasses
import pathlib

import jax
import tokenizers
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from rbjax.diffusion.schedule import Schedule
from rbjax.interop import huggingface, json_files, safetensors_files
from rbjax.models import params as params_lib
from rbjax.models.autoencoder_kl import AutoencoderKLConfig
from rbjax.models.clip_text import CLIPTextConfig
from rbjax.models.params import shapes
from rbjax.models.pipeline import Pipeline, retrinet_config
from rbjax.models.retrinet import make_conjunctions
from rbjax.models.unet import UNetConfig
from rbjax.parallel import rules
from rbjax.text import tokenizer as tokenizer_lib

MODELS = {  # part with a config.json -> its class
    "unet": ("UNet2DConditionModel", UNetConfig),
    "vae": ("AutoencoderKL", AutoencoderKLConfig),
    "text_encoder": ("CLIPTextModel", CLIPTextConfig),
}


@dataclasses.dataclass(frozen=True)
class Parts:
    """The settings of a folder's models."""

    unet: UNetConfig
    vae: AutoencoderKLConfig
    text_encoder: CLIPTextConfig


def folder_of(config: ConfigDict) -> pathlib.Path:
    """The folder of `config.pretrained`."""
    return pathlib.Path(config.pretrained).expanduser()


def resolve(config: ConfigDict) -> ConfigDict:
    """The configuration with what `config.pretrained` says written into it.

    Its `model` section holds the folder's settings (and of its own the dtypes, `remat` and
    `retrieval`); empty fields of `noise_schedule` are those of the folder's scheduler.

    Raises:
        FileNotFoundError: not a folder of diffusers, or parts or weights are missing.
        ValueError: parts or settings do not fit each other.
    """
    folder = folder_of(config)
    parts = read_parts(folder)
    for name in MODELS:
        safetensors_files.open_folder(folder / name)  # raises before a data set is built
    check_fit(parts, config)
    resolved = with_parts(config, parts)
    with resolved.unlocked(), resolved.ignore_type():
        resolved.noise_schedule = ConfigDict(noise_schedule(folder, config.noise_schedule))
    return resolved


def with_parts(config: ConfigDict, parts: Parts) -> ConfigDict:
    """The configuration with models of these sizes; of its own it keeps dtypes and `remat`."""
    resolved = config.copy_and_resolve_references()
    model, own = resolved.model, config.model
    with resolved.unlocked(), resolved.ignore_type():
        model.patch = 0
        model.unet = _section(parts.unet, own.unet, ("dtype", "remat"))
        model.vae = _section(parts.vae, own.vae, ("dtype",))
        model.text = _section(parts.text_encoder, own.text, ("dtype",))
    return resolved


def _section(settings, own: ConfigDict, kept: tuple[str, ...]) -> ConfigDict:
    fields = dataclasses.asdict(settings) | {"dtype": "float32"}
    return ConfigDict(fields | {name: own[name] for name in kept if name in own})


def read_parts(folder: pathlib.Path) -> Parts:
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
            "path of Stable Diffusion in diffusers' format"
        )
    missing = [n for n in MODELS if not (folder / n / huggingface.CONFIG_NAME).is_file()]
    missing += [name for name in ("tokenizer",) if not (folder / name).is_dir()]
    if (folder / "retrinet").is_dir():
        raise FileNotFoundError(
            f"config.pretrained={str(folder)!r} holds a RetriNet, which generates, but no training "
            "starts from it: give a folder of Stable Diffusion"
        )
    if missing:
        raise FileNotFoundError(
            f"config.pretrained={str(folder)!r} is not a folder of Stable Diffusion in diffusers' "
            f"format: {', '.join(missing)} missing"
        )
    return Parts(**{name: _settings(folder, name) for name in MODELS})


def _settings(folder: pathlib.Path, part: str):
    kind, settings = MODELS[part]
    config = huggingface.load_config(folder / part)
    found = config.get("_class_name") or next(iter(config.get("architectures") or []), kind)
    if found != kind:
        raise ValueError(
            f"config.pretrained: {folder / part} holds a {found}, not a {kind}: this is no "
            "Stable Diffusion 1.x or 2.x"
        )
    try:
        return settings.from_dict(config)
    except ValueError as error:
        raise ValueError(f"config.pretrained: {folder / part}: {error}") from error


def check_fit(parts: Parts, config: ConfigDict) -> None:
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


def noise_schedule(folder: pathlib.Path, own: ConfigDict) -> dict:
    """The folder's noise schedule, except where the config's fields are not empty.

    Warns of every field in which the two differ; the config's value holds. Without a scheduler
    in the folder the values are those of SD 1.5.

    Raises:
        ValueError: the scheduler's file is damaged, or its noise is not supported.
    """
    path = folder / "scheduler" / "scheduler_config.json"
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


def tokenizer(config: ConfigDict) -> tokenizers.Tokenizer:
    """The folder's tokenizer; prompts over `data.max_tokens` are cut with a warning.

    Raises:
        FileNotFoundError: its files are missing.
        ValueError: it has more tokens than the text encoder.
    """
    folder = folder_of(config) / "tokenizer"
    loaded = tokenizer_lib.clip_tokenizer(folder, config.data.max_tokens)
    if loaded.get_vocab_size() > config.model.text.vocab_size:
        raise ValueError(
            f"config.pretrained: {folder} has {loaded.get_vocab_size()} tokens, text_encoder/ "
            f"only {config.model.text.vocab_size}: parts of different models"
        )
    return loaded


def load_params(config: ConfigDict, mesh: jax.sharding.Mesh) -> params_lib.Tree:
    """The parameters of a pipeline, float32, read from the folder into their shards.

    The retrieval encoder is a copy of the UNet's encoder; the conjunctions are fresh.

    Args:
        config: as `resolve` returns it.
        mesh: to place on.

    Raises:
        FileNotFoundError, ValueError: weights are missing or do not fit; see
            interop/huggingface.py.
    """
    folder, text = folder_of(config), config.model.text
    sizes = text.vocab_size, text.max_position_embeddings
    pipeline = shapes(lambda rngs: Pipeline(config.model, *sizes, rngs))
    huggingface.fill(pipeline.autoencoder, folder / "vae", mesh=mesh)
    huggingface.fill(pipeline.text_encoder, folder / "text_encoder", mesh=mesh)
    huggingface.fill(pipeline.retrinet.unet, folder / "unet", mesh=mesh)
    pipeline.retrinet.copy_encoder()
    params = nnx.to_pure_dict(nnx.state(pipeline, nnx.Param))
    params["retrinet"]["conjunctions"] = _fresh_conjunctions(config, mesh)
    return params


def _fresh_conjunctions(config: ConfigDict, mesh: jax.sharding.Mesh) -> params_lib.Tree:
    def make() -> params_lib.Tree:
        fresh = make_conjunctions(retrinet_config(config.model), nnx.Rngs(config.seed))
        return nnx.to_pure_dict(nnx.state(fresh, nnx.Param))

    return jax.jit(make, out_shardings=rules.shardings(jax.eval_shape(make), mesh))()
