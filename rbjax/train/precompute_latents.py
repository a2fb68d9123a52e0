"""Stores what the frozen encoders of an experiment make of a split, and finds it for training."""

import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import nnx

from rbjax.data import images as images_lib
from rbjax.data import latent_cache, loader
from rbjax.data.dataset import Split
from rbjax.data.latent_cache import CachedLatents
from rbjax.experiment.setup import Experiment
from rbjax.interop import huggingface, json_files, safetensors_files
from rbjax.models import params as params_lib
from rbjax.models import pipeline as pipeline_lib
from rbjax.parallel import mesh as meshes
from rbjax.text import concepts as concepts_lib
from rbjax.text.concepts import CHARACTER, CONCEPTS

ENCODERS = {  # part -> module of the pipeline, folder of config.pretrained, section of the config
    "moments": ("autoencoder", "vae", "vae"),
    "text": ("text_encoder", "text_encoder", "text"),
}
Rows = Iterator[tuple[np.ndarray, np.ndarray]]  # indices [B, k], values [B, ...]


def find(exp: Experiment, split: Split, trained: Collection[str]) -> CachedLatents:
    """What is stored of a split and fits; prints for each part that it is read, or why not.

    Args:
        exp: the experiment; nothing is read unless `config.data.cached_latents`.
        split: to read.
        trained: modules of the pipeline with parameters that train.

    Raises:
        ValueError: what fits is damaged.
    """
    if not exp.config.data.cached_latents:
        return CachedLatents()
    moments, text = (_find_part(exp, split, part, trained) for part in latent_cache.PARTS)
    return CachedLatents(
        moments and _opened(latent_cache.open_moments, moments),
        text and _opened(latent_cache.open_texts, text),
    )


def _opened(read: Callable, folder: pathlib.Path):
    try:
        return read(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} is damaged ({error}): remove it and store it again, or train without it, "
            "--config.data.cached_latents=False"
        ) from error


def _find_part(exp, split, part: str, trained: Collection[str]) -> pathlib.Path | None:
    if reason := _obstacle(exp, part, trained):
        print(f"Stored {part}: not used, {reason}.", flush=True)
        return None
    stored = latent_cache.folders(split.directory, part)
    wanted = fingerprint(exp, split, part) if stored else {"part": part}  # hashes all weights
    if reason := latent_cache.mismatch(split.directory, wanted):
        print(
            f"Stored {part}: not used, {reason}. `python scripts/cache_latents.py` with the same "
            "--config stores what fits.",
            flush=True,
        )
        return None
    folder = latent_cache.folder_of(split.directory, wanted)
    print(f"Stored {part}: read from {folder.name}.", flush=True)
    return folder


def _obstacle(exp: Experiment, part: str, trained: Collection[str]) -> str:
    """Why a part can never be stored for this experiment, or ""."""
    if not exp.pretrained:
        return "config.pretrained is empty: only Stable Diffusion's frozen encoders are stored"
    module = ENCODERS[part][0]
    if module in trained:
        return f"config.train.trained includes parameters of {module}: what it returns will change"
    return ""


def fingerprint(exp: Experiment, split: Split, part: str) -> dict:
    """All that the stored content of a part depends on."""
    data, section, folder = exp.config.data, ENCODERS[part][2], _weights_folder(exp, part)
    weights = safetensors_files.files(folder)
    common = {
        "format": 1,  # to count up when the same settings give other content
        "part": part,
        "dataset": exp.builder.info.full_name,
        "dataset_info": latent_cache.digest(split.directory / "dataset_info.json"),
        "split": split.name,
        "records": len(split),
        "dtype": str(exp.config.model[section].dtype),
        "weights": latent_cache.digest(folder / json_files.CONFIG_NAME, *weights),
    }
    if part == "moments":
        return common | {"size": data.size, "view": data.view}
    return common | {
        "prompt_tags": data.prompt_tags,
        "max_tokens": data.max_tokens,
        "tokenizer": latent_cache.digest_text(exp.tokenizer.to_str()),
        "vocabulary": latent_cache.digest(split.directory / "vocabulary.json"),
    }


def _weights_folder(exp: Experiment, part: str) -> pathlib.Path:
    assert exp.pretrained is not None  # else `_obstacle` says so
    return exp.pretrained.folder / ENCODERS[part][1]


def store(exp: Experiment, split: Split, parts: Sequence[str], batch_size: int) -> None:
    """Computes and writes parts that are not there yet; an interrupted part starts anew.

    Args:
        exp: the experiment.
        split: to encode.
        parts: of latent_cache.PARTS.
        batch_size: pictures or prompts at once.

    Raises:
        ValueError: an encoder trains, or is none of Stable Diffusion's.
        OSError: weights are missing, or there is no room on the disk.
    """
    meshes.check_batch(exp.mesh, batch_size, "--batch_size")
    pipeline = pipeline_lib.abstract_pipeline(exp.config, exp.tokenizer)
    params = nnx.to_pure_dict(nnx.state(pipeline, nnx.Param))
    train = exp.config.train
    trained = params_lib.split_trained(params, list(train.trained), list(train.frozen))[0]
    for part in parts:
        if reason := _obstacle(exp, part, trained):
            raise ValueError(f"{part} cannot be stored: {reason}")
    write = {"moments": _write_moments, "text": _write_text}
    for part in parts:
        target = fingerprint(exp, split, part)
        folder = latent_cache.folder_of(split.directory, target)
        if not latent_cache.mismatch(split.directory, target):
            print(f"{folder} is there already.", flush=True)
            continue
        encoder = getattr(pipeline, ENCODERS[part][0])
        huggingface.fill(encoder, _weights_folder(exp, part), mesh=exp.mesh)
        with jax.set_mesh(exp.mesh):
            write[part](exp, split, encoder, batch_size, folder, target)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"wrote {folder} ({size / 1e9:.3f} GB)", flush=True)


def _write_moments(exp, split, autoencoder, batch_size, folder, target) -> None:
    crops = exp.examples(split).crops
    encode = _jitted(exp, autoencoder, _moments)
    blank = jax.ShapeDtypeStruct((1, crops.size, crops.size, 3), np.uint8)
    shape = (len(split), len(CONCEPTS), *jax.eval_shape(encode, blank).shape[1:])
    wanted = np.zeros(shape[:2], bool)
    wanted[:, CHARACTER] = True
    wanted[split.boxed.order] = True  # only these are asked for their face or clothes
    size = 2 * int(np.prod(shape))
    with (
        ThreadPoolExecutor(exp.config.data.threads) as pool,
        latent_cache.incomplete_folder(folder, target, size) as partial,
    ):

        def load(keys: np.ndarray) -> np.ndarray:
            return np.stack(list(pool.map(lambda key: crops[key[0], key[1]], keys)))

        rows = _encoded(exp, encode, load, np.argwhere(wanted), batch_size, "crops")
        latent_cache.write_array(partial / "moments.npy", shape, rows)


def _write_text(exp, split, text_encoder, batch_size, folder, target) -> None:
    examples = exp.examples(split)
    texts = {"states": all_prompts(examples), "concepts": examples.concept_ids}
    width, encode = text_encoder.config.hidden_size, _jitted(exp, text_encoder, _states)
    size = texts["states"].nbytes + sum(2 * ids.size * width for ids in texts.values())
    with latent_cache.incomplete_folder(folder, target, size) as partial:
        np.save(partial / "ids.npy", texts["states"])
        for name, ids in texts.items():
            keys = np.arange(len(ids))[:, None]
            rows = _encoded(exp, encode, lambda k, ids=ids: ids[k[:, 0]], keys, batch_size, name)
            latent_cache.write_array(partial / f"{name}.npy", (*ids.shape, width), rows)


def all_prompts(examples: loader.Examples) -> np.ndarray:
    """The different prompts that training can ask for, whatever is carried: int32 [M, T]."""
    kinds = [set(), *concepts_lib.CARRIED.values()]
    tags = {()}
    for target in range(len(examples.split)):
        tags |= {tuple(examples.tags(target, carried)) for carried in kinds}
    ids = [examples.prompt_ids(list(each)) for each in tqdm.tqdm(sorted(tags), desc="tokens")]
    return np.unique(np.stack(ids), axis=0)


def _moments(autoencoder: nnx.Module, images: jax.Array) -> jax.Array:
    """uint8 [B, H, W, 3] -> [B, h, w, 2C]."""
    return jnp.concatenate(autoencoder.moments(images_lib.to_float(images)), axis=-1)


def _states(text_encoder: nnx.Module, ids: jax.Array) -> jax.Array:
    """int32 [B, T] -> [B, T, D]."""
    return text_encoder(ids)


def _jitted(exp: Experiment, module: nnx.Module, function: Callable) -> Callable:
    """`function(module, x)` of x alone, as float16, on the mesh."""
    graphdef, params = nnx.split(module)

    def call(params: nnx.State, x: jax.Array) -> jax.Array:
        return function(nnx.merge(graphdef, params), x).astype(jnp.float16)

    compiled = jax.jit(call, out_shardings=meshes.replicated(exp.mesh))
    return lambda x: compiled(params, x)


def _encoded(exp, encode: Callable, load: Callable, keys: np.ndarray, size: int, what: str) -> Rows:
    """Encodes `load(keys)` batch by batch; the device computes one while the next is loaded."""
    sharding, late = meshes.batch_sharding(exp.mesh), None
    with tqdm.tqdm(total=len(keys), desc=f"encoding {what}") as progress:
        for start in range(0, len(keys), size):
            part = keys[start : start + size]
            filled = np.resize(part, (size, part.shape[1]))  # the last batch repeats itself
            values = encode(jax.device_put(load(filled), sharding))
            if late is not None:
                yield late[0], np.asarray(late[1])[: len(late[0])]
            late = part, values
            progress.update(len(part))
        yield late[0], np.asarray(late[1])[: len(late[0])]
