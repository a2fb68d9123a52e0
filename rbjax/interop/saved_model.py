"""A saved model: one folder with everything that generating needs, in diffusers' layout.

    model_index.json   size and view of the images, length of prompts, sampling defaults
    retrinet/, vae/    config.json, diffusion_pytorch_model.safetensors
    text_encoder/      config.json, model.safetensors
    tokenizer/         tokenizer.json, tokenizer_config.json
    scheduler/         scheduler_config.json

No data set is needed to read it. `rbjax/interop/diffusers_export.py` adds the Python files that
make the same folder a diffusers pipeline.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import tokenizers
from flax import nnx
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from rbjax.diffusion.schedule import Schedule
from rbjax.interop import (
    huggingface,
    json_files,
    model_section,
    safetensors_files,
    shipped_base,
)
from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from rbjax.models.block_dct import BlockDCT
from rbjax.models.clip_text import CLIPTextConfig
from rbjax.models.params import Tree, nnx_state
from rbjax.models.pipeline import Pipeline, abstract_pipeline
from rbjax.models.retrinet import RetriNetConfig
from rbjax.models.unet_config import UNetConfig
from rbjax.text import prompts
from rbjax.text import tokenizer as tokenizer_lib
from tfds_retribooru import atomic_folder

INDEX = json_files.INDEX_NAME
BLOCK_DCT = ["modeling_block_dct", "BlockDCT"]
RETRIEVAL = ("heads", "positions", "reference_timestep")
DATA_FIELDS = ("size", "view", "max_tokens")  # of the experiment's `data` section
SPACES = "underscores_as_spaces"  # of the same section; in the index where it is true
CONTENT = (  # names in a saved model, and in an export of diffusers_export.py
    *("retrinet", "vae", "text_encoder", "tokenizer", "scheduler", INDEX),
    *("pipeline.py", "comfyui_retrinet.py", "README.md", "retrinet.safetensors"),
)


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained pipeline with all that generating needs.

    Attributes:
        config: sections of the experiment's configuration (see configs/composition.py). `model`:
            the sizes of the modules, which make `graphdef`. `data`: at least `size` (of an image's
            side, in pixels), `view` (how a reference shows its concept) and `max_tokens` (length of
            a prompt); `underscores_as_spaces` where prompts are read so. `noise_schedule`: the
            fields of `Schedule`. `sampling`: the fields of `Sampling`, the defaults of generation.
        tokenizer: of prompts and concept words.
        graphdef: of the `Pipeline`.
        params: of the `Pipeline`, float32; those of a training are the averages (EMA) of what
            trained, and what is frozen.
        step: how many updates of its training it has seen; 0 where that is not known.
    """

    config: ConfigDict
    tokenizer: tokenizers.Tokenizer
    graphdef: nnx.GraphDef
    params: Tree
    step: int = 0

    @property
    def schedule(self) -> Schedule:
        """The noise schedule of training."""
        return Schedule(**dict(self.config.noise_schedule))


def save(
    model: Model, folder: str | Path, dtype: DTypeLike | None = None, *, on_base: bool = False
) -> None:
    """Writes the folder, or replaces a saved model in it; see `replace`.

    Args:
        model: to save.
        folder: to write.
        dtype: of the weights, None = as they are; np.float16 halves the files.
        on_base: leave out the weights that rbjax/weights/base holds too; see shipped_base.py.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: `on_base`, but the model did not start from the base.
    """
    with replace(Path(folder)) as partial:
        write_parts(model, partial, dtype)
        if on_base:
            shipped_base.leave_out(partial)


@contextlib.contextmanager
def replace(folder: Path) -> Iterator[Path]:
    """Yields a folder to write a model in, which takes the place of `folder` when it is complete.

    A saved model or an export that is there stays as it was until then. Its parts are not taken
    over; all else that somebody put beside them is.

    Raises:
        FileExistsError: `folder` holds something else.
    """
    saved = (folder / INDEX).is_file() and (folder / "retrinet").is_dir()
    if folder.exists() and not saved and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} is not empty and holds no saved model that could be replaced: name another "
            "folder"
        )
    with atomic_folder.replace(folder) as partial:
        if saved:
            shutil.copytree(
                folder,
                partial,
                symlinks=True,
                ignore=lambda parent, _: CONTENT if parent == str(folder) else (),
                dirs_exist_ok=True,
            )
        yield partial


def write_parts(model: Model, folder: Path, dtype: DTypeLike | None) -> None:
    """Writes the files that the module's docstring lists; see `save`."""
    pipeline = nnx.merge(model.graphdef, nnx_state(model.params))
    retrinet, text = pipeline.retrinet, pipeline.text_encoder
    huggingface.save(retrinet, folder / "retrinet", retrinet_config(retrinet.config), dtype=dtype)
    ids = special_ids(model.tokenizer)
    huggingface.save(text, folder / "text_encoder", text.config.to_dict() | ids, dtype=dtype)
    _save_autoencoder(pipeline.autoencoder, folder / "vae", dtype)
    save_tokenizer(model.tokenizer, folder / "tokenizer", length=model.config.data.max_tokens)
    _write_json(folder / json_files.SCHEDULER_CONFIG, _scheduler_config(model))
    _write_json(folder / INDEX, _index(model))


def load(
    folder: str | Path, dtype: str = "float32", mesh: jax.sharding.Mesh | None = None
) -> Model:
    """Reads a folder that `save` or diffusers' `save_pretrained` wrote.

    Args:
        folder: to read.
        dtype: of the computation; parameters are float32.
        mesh: to place the parameters on; None = the default device.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: the folder holds another pipeline, lacks the weights of a base that is not the
            one that ships, or weights do not fit the configuration; it lists the keys.
    """
    folder = Path(folder)
    index = _read_json(folder / INDEX)
    if absent := [name for name in ("retrinet", *DATA_FIELDS, "sampling") if name not in index]:
        raise ValueError(
            f"{folder} holds a {index.get('_class_name')}, not a RetriNet: {INDEX} has no "
            f"{', '.join(absent)}. Stable Diffusion is what a training starts from: "
            "--config.pretrained"
        )
    tokenizer = tokenizer_lib.read_pretrained(folder / "tokenizer", index["max_tokens"])
    on_base = shipped_base.is_part_of(index, folder)
    config = ConfigDict(
        {
            "model": _model_section(folder, {"dtype": dtype}),
            "data": {name: index[name] for name in (*DATA_FIELDS, SPACES) if name in index},
            "noise_schedule": dataclasses.asdict(
                Schedule.from_config(_read_json(folder / json_files.SCHEDULER_CONFIG))
            ),
            "sampling": index["sampling"],
        }
    )
    pipeline = abstract_pipeline(config, tokenizer)
    _fill(pipeline, folder, mesh, on_base=on_base)
    graphdef, params = nnx.split(pipeline, nnx.Param)
    return Model(config, tokenizer, graphdef, nnx.to_pure_dict(params))


def _fill(
    pipeline: Pipeline, folder: Path, mesh: jax.sharding.Mesh | None, *, on_base: bool
) -> None:
    """Reads the parameters of all parts, in place; raises ValueError where they do not fit."""
    retrinet, text = pipeline.retrinet, pipeline.text_encoder
    parts: dict[str, nnx.Module] = {"retrinet": retrinet, "text_encoder": text}
    if isinstance(pipeline.autoencoder, AutoencoderKL):
        parts["vae"] = pipeline.autoencoder
    for name, part in parts.items():
        shared = shipped_base.tensors(name) if on_base else {}
        huggingface.fill(part, folder / name, mesh, others=shared)


def retrinet_config(config: RetriNetConfig) -> dict[str, Any]:
    """Returns the `config.json` of a RetriNet: a diffusers UNet's fields and what RetriNet adds."""
    unet = config.unet.to_dict()
    del unet["_class_name"]
    retrieval = {name: getattr(config, name) for name in RETRIEVAL}
    return {"_class_name": "RetriNetModel", "unet_config": unet, **retrieval}


def _model_section(folder: Path, computed: dict[str, str]) -> dict[str, Any]:
    """Returns the experiment's `model` section, from the parts' own configurations."""
    retrinet = json_files.read_config(folder / "retrinet", ("unet_config", *RETRIEVAL))
    text = json_files.read_config(folder / "text_encoder")
    vae = json_files.read_config(folder / "vae", ("_class_name",))
    if vae["_class_name"] == BlockDCT.__name__:
        own = {"patch": vae["factor"], "luma": vae["luma"], "chroma": vae["chroma"]}
    else:
        own = {"patch": 0, "vae": model_section.part(AutoencoderKLConfig.from_dict(vae), computed)}
    return own | {
        "unet": model_section.part(UNetConfig.from_dict(retrinet["unet_config"]), computed),
        "text": model_section.part(CLIPTextConfig.from_dict(text), computed),
        "retrieval": {name: retrinet[name] for name in RETRIEVAL},
    }


def _save_autoencoder(
    autoencoder: AutoencoderKL | BlockDCT, folder: Path, dtype: DTypeLike | None
) -> None:
    """Writes a KL autoencoder, or a BlockDCT as the kernels of its two convolutions in torch."""
    if not isinstance(autoencoder, BlockDCT):
        huggingface.save(autoencoder, folder, dtype=dtype)
        return
    encoder, decoder = autoencoder.kernels()
    side = autoencoder.factor
    encoder = encoder.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)
    decoder = decoder.reshape(-1, side, side, 3).transpose(0, 3, 1, 2)
    config = {"_class_name": "BlockDCT", **dataclasses.asdict(autoencoder), "scaling_factor": 1.0}
    tensors = {"encoder.weight": encoder, "decoder.weight": decoder}
    _write_json(folder / json_files.CONFIG_NAME, config)
    safetensors_files.save(tensors, folder / huggingface.DIFFUSERS_WEIGHTS_NAME)


def special_ids(tokenizer: tokenizers.Tokenizer) -> dict[str, int]:
    """Returns fields that transformers requires of a text encoder."""
    start, *_, end = prompts.encode(tokenizer, [""], 2)[0].tolist()
    return {"bos_token_id": start, "eos_token_id": end, "pad_token_id": _padding(tokenizer)}


def save_tokenizer(tokenizer: tokenizers.Tokenizer, folder: Path, *, length: int) -> None:
    """Writes a tokenizer as transformers reads it, for prompts of `length` tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": length,
        "pad_token": tokenizer.id_to_token(_padding(tokenizer)),
    }
    if tokenizer_lib.is_of_words(tokenizer):
        config["unk_token"] = tokenizer_lib.UNKNOWN
    _write_json(folder / "tokenizer_config.json", config)


def _padding(tokenizer: tokenizers.Tokenizer) -> int:
    """Returns the id that fills a prompt up."""
    return int(prompts.encode(tokenizer, [""], 3)[0, -1])


def _scheduler_config(model: Model) -> dict[str, Any]:
    schedule = dataclasses.asdict(model.schedule)
    return {
        "_class_name": "RetriNetScheduler",
        "beta_schedule": schedule.pop("betas"),
        **schedule,
        "method": model.config.sampling.method,
        "clip_sample": False,  # the default of diffusers' own schedulers clips
    }


def _index(model: Model) -> dict[str, Any]:
    """Returns the pipeline's own settings, and where diffusers finds each part's class."""
    config = model.config
    return {
        "_class_name": ["pipeline", "RetriNetPipeline"],
        "retrinet": ["modeling_retrinet", "RetriNetModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "scheduler": ["scheduling_retrinet", "RetriNetScheduler"],
        "vae": ["diffusers", "AutoencoderKL"] if config.model.get("vae") else BLOCK_DCT,
        **{name: config.data[name] for name in DATA_FIELDS},
        "sampling": dict(config.sampling),
        **({SPACES: True} if config.data.get(SPACES) else {}),
    }


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: not a folder of a saved model")
    return json_files.read(path)
