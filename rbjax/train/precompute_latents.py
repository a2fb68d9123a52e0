"""Stores what the frozen encoders of an experiment return for a split, and finds it for training.

Axes: B batch, H W image, h w latent, C latent channels, M prompts, T tokens, D text width.
"""

import contextlib
import functools
import math
import pathlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import jax
import numpy as np
import tqdm
from flax import nnx

from rbjax.data import latent_cache, variation
from rbjax.data.dataset import Split
from rbjax.data.latent_cache import CachedLatents, Fingerprint, mismatch
from rbjax.data.loader import Examples
from rbjax.experiment.setup import Experiment
from rbjax.interop import huggingface, json_files, safetensors_files
from rbjax.models import params as params_lib
from rbjax.models import pipeline as pipeline_lib
from rbjax.models.autoencoder_kl import AutoencoderKL
from rbjax.models.clip_text import CLIPTextModel
from rbjax.parallel import distributed
from rbjax.parallel import mesh as meshes
from rbjax.text import concepts as concepts_lib
from rbjax.text.concepts import CHARACTER, CLOTHES, CONCEPTS, FACE
from rbjax.train import encoding
from tfds_retribooru.building import locks

T = TypeVar("T")


class _Encoder(NamedTuple):
    module: str  # attribute of the pipeline
    folder: str  # below `config.pretrained`
    section: str  # of `config.model`


REMEDY = " `python scripts/cache_latents.py` with the same --config stores what fits."
ENCODERS = {
    "moments": _Encoder(module="autoencoder", folder="vae", section="vae"),
    "text": _Encoder(module="text_encoder", folder="text_encoder", section="text"),
}


def find(exp: Experiment, split: Split, trained: Collection[str]) -> CachedLatents:
    """Opens what is stored of a split and fits; prints for each part that it is read, or why not.

    With `config.data.store_latents` it makes moments that are missing.

    Args:
        exp: the experiment; nothing is read unless `config.data.cached_latents`.
        split: to read.
        trained: modules of the pipeline with parameters that train.

    Raises:
        ValueError: what fits is damaged.
    """
    if not exp.config.data.cached_latents:
        return CachedLatents()
    if exp.config.data.store_latents and not _why_not_constant(exp, "moments", trained):
        _store_beside(exp, split)
    moments, text = (
        _find_folder(exp, split, part=part, trained=trained) for part in latent_cache.PARTS
    )
    if moments and (live := variation.live_fields(exp.config.data)):
        print(
            f"Stored moments: not of references, which config.data.{', '.join(live)} changes: they "
            "are encoded in each update.",
            flush=True,
        )
    shapes, targets = exp.target_shapes(split), None
    if shapes is not None:
        targets = _open(functools.partial(latent_cache.CachedTargets, shapes=shapes), moments)
    return CachedLatents(
        moments=_open(latent_cache.open_moments, moments),
        targets=targets,
        texts=_open(latent_cache.open_texts, text),
    )


def _store_beside(exp: Experiment, split: Split) -> None:
    """Stores the moments; raises OSError, with the remedy, where the data set's folder refuses."""
    try:
        store(exp, split, parts=["moments"], batch_size=exp.config.batch_size)
    except OSError as error:
        raise OSError(
            f"the latents cannot be stored beside the data set: {error}. Copy it into a folder of "
            "your own (--config.data_dir), or encode in each update, "
            "--config.data.store_latents=False"
        ) from error


def _open(read: Callable[[pathlib.Path], T], folder: pathlib.Path | None) -> T | None:
    if folder is None:
        return None
    try:
        return read(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} is damaged ({error}): remove it and store it again, or train without it, "
            "--config.data.cached_latents=False"
        ) from error


def _find_folder(
    exp: Experiment, split: Split, *, part: str, trained: Collection[str]
) -> pathlib.Path | None:
    if reason := _why_not_constant(exp, part, trained):
        print(f"Stored {part}: not used, {reason}.", flush=True)
        return None
    stored = latent_cache.folders(split.directory, part)  # a fingerprint hashes all weights
    expected = fingerprint(exp, split, part) if stored else {"part": part}
    if reason := mismatch(split.directory, expected):
        print(f"Stored {part}: not used, {reason}.{REMEDY}", flush=True)
        return None
    folder = latent_cache.folder_of(split.directory, expected)
    print(f"Stored {part}: read from {folder.name}.", flush=True)
    return folder


def _why_not_constant(exp: Experiment, part: str, trained: Collection[str]) -> str:
    """Returns why a part can never be stored for this experiment; "" if it can."""
    if not exp.pretrained:
        return "config.pretrained is empty: only Stable Diffusion's frozen encoders are stored"
    data, module = exp.config.data, ENCODERS[part].module
    if part == "text" and variation.varies_prompts(data):
        return "config.data.shuffle_tags and drop_tags make new prompts in each update"
    if module in trained:
        return f"config.train.trained includes parameters of {module}: what it returns will change"
    return ""


def fingerprint(exp: Experiment, split: Split, part: str) -> Fingerprint:
    """Returns all that the stored content of a part depends on."""
    data, folder = exp.config.data, _weights_folder(exp, part)
    common = {
        "format": 2,  # to count up when the same settings give other content
        "part": part,
        "dataset": exp.builder.info.full_name,
        "dataset_info": latent_cache.digest(split.directory / "dataset_info.json"),
        "split": split.name,
        "records": len(split),
        "dtype": str(exp.config.model[ENCODERS[part].section].dtype),
        "weights": latent_cache.digest(
            folder / json_files.CONFIG_NAME, *safetensors_files.files(folder)
        ),
    }
    if part == "moments":
        blank = data.blank_background >= 0.5
        content = {"size": data.size, "view": data.view, "blank_background": blank}
        changes = {"changes": variation.change_rates(data)} if data.fixed_changes else {}
        shapes = exp.target_shapes(split)
        targets = {} if shapes is None else {"targets": latent_cache.digest_shapes(shapes)}
        return common | content | changes | targets
    return common | {
        "prompt_tags": data.prompt_tags,
        "max_tokens": data.max_tokens,
        "underscores_as_spaces": data.underscores_as_spaces,
        "tokenizer": latent_cache.digest_text(exp.tokenizer.to_str()),
        "vocabulary": latent_cache.digest(split.directory / "vocabulary.json"),
    }


def _weights_folder(exp: Experiment, part: str) -> pathlib.Path:
    assert exp.pretrained is not None  # `_why_not_constant` comes first
    return exp.pretrained.folder / ENCODERS[part].folder


def store(exp: Experiment, split: Split, *, parts: Sequence[str], batch_size: int) -> None:
    """Computes and writes parts that are not there yet; an interrupted part starts anew.

    Args:
        exp: the experiment.
        split: to encode.
        parts: of latent_cache.PARTS.
        batch_size: images or prompts at once.

    Raises:
        ValueError: no part can be stored: an encoder trains, or is none of Stable Diffusion's.
        OSError: weights are missing, or there is no room on the disk.
    """
    meshes.check_batch(exp.mesh, batch_size, field="--batch_size")
    pipeline = pipeline_lib.abstract_pipeline(exp.config, exp.tokenizer)
    params = nnx.to_pure_dict(nnx.state(pipeline, nnx.Param))
    train = exp.config.train
    trained = params_lib.split_trained(params, list(train.trained), list(train.frozen))[0]
    reasons = {part: _why_not_constant(exp, part, trained) for part in parts}
    refused = [f"{part} cannot be stored: {reason}" for part, reason in reasons.items() if reason]
    if len(refused) == len(parts):
        raise ValueError("; ".join(refused))
    print(*refused, sep="\n", end="\n" * bool(refused), flush=True)
    for part in (part for part in parts if not reasons[part]):
        content = fingerprint(exp, split, part)
        folder = latent_cache.folder_of(split.directory, content)
        is_missing = functools.partial(mismatch, split.directory, content)
        if not distributed.from_primary(is_missing):
            print(f"{folder} is there already.", flush=True)
            continue
        with locks.build_lock(folder) if distributed.is_primary() else contextlib.nullcontext():
            if not distributed.from_primary(is_missing):
                continue  # another run has made it
            encoder = getattr(pipeline, ENCODERS[part].module)
            huggingface.fill(encoder, _weights_folder(exp, part), mesh=exp.mesh)
            write: Callable[..., None] = _write_moments if part == "moments" else _write_text
            with jax.set_mesh(exp.mesh):
                write(exp, split, encoder, content=content, batch_size=batch_size)
        with distributed.primary_first():  # the others go on when it is there
            print(f"wrote {folder} ({latent_cache.size(folder) / 1e9:.3f} GB)", flush=True)


def _write_moments(
    exp: Experiment,
    split: Split,
    autoencoder: AutoencoderKL,
    *,
    content: Fingerprint,
    batch_size: int,
) -> None:
    crops = exp.examples(split, training=True).crops
    encode = encoding.encoder(exp, autoencoder, encoding.moments)
    used = np.zeros((len(split), len(CONCEPTS)), bool)
    used[:, CHARACTER] = True
    if exp.config.data.faces + exp.config.data.clothes:
        used[split.clusters_with_box.order, FACE] = True
        used[split.clusters_with_clothes.order, CLOTHES] = True
    shape = (*used.shape, *encoding.latent_shape(encode, crops.size, crops.size))
    targets = {}  # file -> positions of its records, shape of its array
    for size in () if crops.shapes is None else np.unique(crops.shapes, axis=0):
        positions = np.flatnonzero((crops.shapes == size).all(axis=1))
        array = (len(positions), *encoding.latent_shape(encode, *size.tolist()))
        targets[latent_cache.target_file(size)] = positions, array
    folder = latent_cache.folder_of(split.directory, content)
    size = 2 * sum(math.prod(s) for s in (shape, *(s for _, s in targets.values())))
    with (
        ThreadPoolExecutor(exp.config.data.threads) as pool,
        latent_cache.incomplete_folder(folder, content, size) as partial,
    ):

        def load(keys: np.ndarray) -> np.ndarray:
            return np.stack(list(pool.map(lambda key: crops[key[0], key[1]], keys)))

        keys = np.argwhere(used)
        rows = encoding.encode_rows(
            exp, encode, load, keys=keys, batch_size=batch_size, name="crops"
        )
        latent_cache.write_array(partial / "moments.npy", shape, rows)
        for name, (positions, array) in targets.items():

            def load_targets(keys: np.ndarray, of: np.ndarray = positions) -> np.ndarray:
                return np.stack(list(pool.map(crops.target, of[keys[:, 0]].tolist())))

            keys = np.arange(len(positions))[:, None]
            rows = encoding.encode_rows(
                exp, encode, load_targets, keys=keys, batch_size=batch_size, name=name
            )
            latent_cache.write_array(partial / name, array, rows)


def _write_text(
    exp: Experiment,
    split: Split,
    text_encoder: CLIPTextModel,
    *,
    content: Fingerprint,
    batch_size: int,
) -> None:
    examples = exp.examples(split)
    texts = {"states": all_prompts(examples), "concepts": examples.concept_ids}
    width, encode = (
        text_encoder.config.hidden_size,
        encoding.encoder(exp, text_encoder, CLIPTextModel.__call__),
    )
    folder = latent_cache.folder_of(split.directory, content)
    size = texts["states"].nbytes + sum(2 * ids.size * width for ids in texts.values())
    with latent_cache.incomplete_folder(folder, content, size) as partial:
        latent_cache.write_ids(partial, texts["states"])
        for name, ids in texts.items():

            def load(keys: np.ndarray, ids: np.ndarray = ids) -> np.ndarray:
                return ids[keys[:, 0]]

            keys = np.arange(len(ids))[:, None]
            rows = encoding.encode_rows(
                exp, encode, load, keys=keys, batch_size=batch_size, name=name
            )
            latent_cache.write_array(partial / f"{name}.npy", (*ids.shape, width), rows)


def all_prompts(examples: Examples) -> np.ndarray:
    """Returns the different prompts that training can use, int32 [M, T].

    They are those of every target without what references carry, for each kind of reference.
    """
    kinds = [set(), *concepts_lib.CARRIED.values()]
    tags = {()}
    for target in range(len(examples.split)):
        tags |= {tuple(examples.tags(target, carried)) for carried in kinds}
    ids = [examples.prompt_ids(list(each)) for each in tqdm.tqdm(sorted(tags), desc="tokens")]
    return np.unique(np.stack(ids), axis=0)
