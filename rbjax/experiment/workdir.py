"""The working directory of a run: its lock, its configuration, what it has logged and finished."""

import contextlib
import fcntl
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import tokenizers
from absl import logging
from ml_collections import ConfigDict

from rbjax import storage
from rbjax.command_line import local_path
from rbjax.data import latent_cache
from rbjax.experiment import added_fields
from rbjax.interop import json_files, safetensors_files, shipped_base, stable_diffusion
from rbjax.interop.stable_diffusion import StableDiffusion
from rbjax.parallel import distributed
from rbjax.storage import StoredPath
from rbjax.text import tokenizer as tokenizer_lib

LOSSES = "loss.json"
TOKENIZER = "tokenizer.json"
PRETRAINED = "pretrained.json"  # digests of the weights that the run started from
PERIODIC_RESULTS = "periodic_results.json"  # of the newest evaluation before the end
REQUESTS = ("sample_now", "save_now")  # files that ask a training that runs for something
CHANGEABLE = (  # fields that may differ between two runs in one working directory
    *("total_steps", "data_dir", "mesh", "eval", "sampling", "sample_images"),
    *(f"{name}_every" for name in ("log", "checkpoint", "sample", "eval")),
    *("data.cache", "data.cached_latents", "data.store_latents", "data.threads"),
    *("model.unet.remat", "train.accumulate", "train.max_bad_updates"),
    "pretrained",  # `check_pretrained` says whether it is the same
)


def check_workdir(config: ConfigDict, workdir: StoredPath) -> None:
    """Makes the working directory, and compares the configuration of its checkpoints with this one.

    Raises:
        ValueError: the directory is a URL, or of another configuration, whose fields are listed, or
            several processes are to write into a bucket.
        PermissionError: it cannot be written.
    """
    if not storage.is_remote(workdir):
        local_path(workdir, "--workdir")
    elif jax.process_count() > 1:
        raise ValueError(
            f"--workdir={workdir}: {jax.process_count()} processes cannot write checkpoints into a "
            "bucket yet; give a directory that all of them share"
        )
    path = workdir / "config.json"
    try:
        storage.make_folder(workdir)
        if distributed.is_primary():
            probe = workdir / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
    except Exception as error:  # of a bucket: also those of gcsfs and of the login
        if not isinstance(error, OSError) and not storage.is_remote(workdir):
            raise
        reason = getattr(error, "strerror", None) or error
        raise PermissionError(
            f"cannot write to --workdir={workdir} ({reason}): choose another directory"
        ) from error
    if path.exists() and _has_checkpoint(workdir):  # a run that ended before leaves nothing
        saved_config = added_fields.complete(ConfigDict(json_files.read(path)))
        _compare(json.loads(saved_config.to_json()), json.loads(config.to_json()), workdir)


def check_start(config: ConfigDict, workdir: StoredPath) -> None:
    """Checks that the model of `config.init_from` is there, where the run is to start with it.

    A run that goes on has all parameters in its own checkpoints.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    if config.init_from and not _has_checkpoint(workdir):
        shipped_base.start_folder(config.init_from)


def check_pretrained(pretrained: StableDiffusion | None, workdir: StoredPath) -> None:
    """Checks that a run goes on with the weights that it started from, wherever they lie now.

    It restores its parameters from its own checkpoints; but stored latents and a teacher are those
    of the folder.

    Raises:
        ValueError: they are others.
    """
    if pretrained is None or not distributed.is_primary():
        return
    path, folder = workdir / PRETRAINED, pretrained.folder
    parts = {name: folder / name for name in stable_diffusion.MODELS}
    found = {
        name: latent_cache.digest(*safetensors_files.files(part)) for name, part in parts.items()
    }
    if not _has_checkpoint(workdir):
        write_text(path, json.dumps(found, indent=1))
        return
    if path.exists():
        expected = json_files.read(path)
        different = [str(parts[name]) for name in parts if expected.get(name) != found[name]]
        reason = f"the weights in {', '.join(different)} are not" if different else ""
    else:  # of an older version
        before = str(json_files.read(workdir / "config.json").get("pretrained", ""))
        moved = before != str(folder) and pathlib.Path(before).expanduser() != folder
        reason = f"it was {before!r}, and it is not known whether its weights are" * moved
    if reason:
        raise ValueError(
            f"config.pretrained={str(folder)!r}: {reason} those that the run in {workdir} started "
            "from. It goes on with a folder of those weights, at any place"
        )


def is_start_known(pretrained: StableDiffusion | None, workdir: StoredPath) -> bool:
    """Returns whether `check_pretrained` compared this run's weights with those of its start."""
    return pretrained is not None and (workdir / PRETRAINED).exists()


def _has_checkpoint(workdir: StoredPath) -> bool:
    return any(p.name.isdigit() for p in (workdir / "checkpoints").glob("*"))


@contextlib.contextmanager
def lock(workdir: StoredPath) -> Iterator[None]:
    """Keeps other runs out of a working directory, until the block or the process ends.

    Process 0 holds the lock for all of its run. A folder in a bucket cannot be locked.

    Raises:
        ValueError: another run holds it.
    """
    if not distributed.is_primary():
        yield
        return
    if storage.is_remote(workdir):
        logging.warning("%s cannot be locked: let no second run use it", workdir)
        yield
        return
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"--workdir={workdir} is in use by another run") from error
        except OSError as error:  # some network file systems know no locks
            logging.warning("%s cannot be locked: let no second run use it (%s)", workdir, error)
        yield


def read_total_steps(workdir: StoredPath) -> int | None:
    """Returns the `total_steps` of the run's last start; None = there was none."""
    path = workdir / "config.json"
    return json_files.read(path)["total_steps"] if path.exists() else None


def read_tokenizer(workdir: StoredPath) -> tokenizers.Tokenizer | None:
    """Returns the tokenizer of a run that goes on, so that its words keep their ids; else None.

    Raises:
        ValueError: its file is damaged.
    """
    path = workdir / TOKENIZER
    return tokenizer_lib.read(path) if _has_checkpoint(workdir) and path.is_file() else None


def write_config(config: ConfigDict, workdir: StoredPath) -> None:
    """Writes the configuration where `check_workdir` looks for it, once it is known to work."""
    write_text(workdir / "config.json", config.to_json(indent=1))


def write_text(path: StoredPath, text: str) -> None:
    """Writes a text file as `storage.write_text`; only process 0 does."""
    if distributed.is_primary():
        storage.write_text(path, text)


def is_finished(config: ConfigDict, workdir: StoredPath) -> bool:
    """Returns whether this run is complete; prints so, and how to go on."""
    path = workdir / "results.json"
    if not path.exists():
        return False
    done = json_files.read(path)["step"]
    if done < config.total_steps:
        return False
    print(
        f"This run is finished: {done} steps, see {path} and {workdir / 'report/index.html'}.\n"
        f"To train longer: --config.total_steps={2 * done}. To evaluate again, with other "
        f"--config.eval or --config.sampling: remove {path}. To start anew: another --workdir."
    )
    return True


def write_loss_history(workdir: StoredPath, history: list[tuple[int, float]]) -> None:
    """Writes the pairs (step, loss)."""
    write_text(workdir / LOSSES, json.dumps(history))


def read_loss_history(workdir: StoredPath, start: float = math.inf) -> list[tuple[int, float]]:
    """Reads the pairs (step, loss), up to the step from which a run resumes."""
    path = workdir / LOSSES
    pairs = json.loads(path.read_text()) if path.exists() else []
    return [(step, loss) for step, loss in pairs if step <= start]


def request(workdir: StoredPath, name: str) -> None:
    """Asks the training in a working directory for one of REQUESTS, after its current step.

    `touch WORKDIR/sample_now` does the same.

    Raises:
        ValueError: there is no such request, or nobody looks for it.
    """
    if name not in REQUESTS:
        raise ValueError(f"request {name!r}: use one of {', '.join(REQUESTS)}")
    if storage.is_remote(workdir):
        raise ValueError("A run in a bucket cannot be asked: it does not look for requests there.")
    (workdir / name).touch()


def take_request(workdir: StoredPath, name: str) -> bool:
    """Returns whether something was asked for, and forgets it."""
    try:
        (workdir / name).unlink()
    except FileNotFoundError:
        return False
    return True


def _compare(old: dict[str, Any], new: dict[str, Any], workdir: StoredPath) -> None:
    before, after = _flatten(old), _flatten(new)
    different = [
        f"  {key}: {before.get(key)!r} there, {after.get(key)!r} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and not {key, key.split(".")[0]}.intersection(CHANGEABLE)
    ]
    if different:
        raise ValueError(
            f"--workdir={workdir} holds a run of another configuration:\n"
            + "\n".join(different)
            + "\nUse another --workdir, or the same configuration."
        )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    items: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        items |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return items
