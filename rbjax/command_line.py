"""What all commands share: options, paths, the environment, and one line for a user's mistakes.

Training commands read absl's flags (`config_flag`, `parse_flags`), the others use `ArgumentParser`.
Everything may import this module; it imports neither JAX nor another module of the package.
"""

import argparse
import contextlib
import functools
import logging as std_logging
import os
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

SCHEME = re.compile(r"[A-Za-z][\w+.-]+:/", re.ASCII)  # of a URL; `Path` leaves it one slash

CONFIGS = Path(__file__).parent / "configs"  # of the repository, installed with the package


@functools.cache
def config_flag() -> flags.FlagHolder[ConfigDict]:
    """Defines absl's required flag --config; only commands do, a library has no flags."""
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration file, FILE.py or FILE.py:VARIANT. Any field can be changed: "
        "--config.FIELD=VALUE; the fields are explained in the file.",
        lock_config=True,
    )
    flags.mark_flag_as_required("config")
    return holder


PROCESS_OPTIONS = (  # name, type, help of what rbjax.parallel.distributed.initialize takes
    (
        "coordinator",
        str,
        "HOST:PORT of process 0, for a run of several processes; TPU slices and Slurm need none.",
    ),
    ("num_processes", int, "Processes of the run, one a host."),
    ("process_id", int, "Number of this process, from 0."),
)


def process_flags() -> Callable[[], dict[str, Any]]:
    """Defines absl's flags of PROCESS_OPTIONS; returns what reads them, by name."""
    define = {str: flags.DEFINE_string, int: flags.DEFINE_integer}
    holders = {name: define[kind](name, None, text) for name, kind, text in PROCESS_OPTIONS}
    return lambda: {name: holder.value for name, holder in holders.items()}


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Adds PROCESS_OPTIONS to a parser; `read_process_options` reads them."""
    for name, kind, text in PROCESS_OPTIONS:
        parser.add_argument(f"--{name}", type=kind, help=text)


def read_process_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what was given of `add_process_options`, by name."""
    return {name: getattr(args, name) for name, *_ in PROCESS_OPTIONS}


def set_environment() -> None:
    """Sets what JAX, TensorFlow and etils read when they are imported; what is set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("EPATH_USE_TF", "0")  # what reads gs:// reads it by gcsfs
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache/rbjax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # of all


def local_path(text: str | os.PathLike[str], option: str = "") -> Path:
    """Returns the path of a file or folder of this machine, `~` expanded.

    Args:
        text: the path as the user gave it.
        option: that it was given to, for the error; "" = none.

    Raises:
        ValueError: it is a URL.
    """
    if "://" in str(text) or SCHEME.match(str(text)):
        raise ValueError(
            f"{option}{'=' if option else ''}{text} is a URL; only files and folders of this "
            "machine can be used here: copy it, or mount what holds it"
        )
    return Path(os.path.expanduser(text))  # Path.expanduser raises for a user that is unknown


def parse_flags(argv: list[str]) -> list[str]:
    """Parses absl's flags; ends the program with one line that says what is wrong with them.

    Wherever the program is started, a configuration of CONFIGS is found by its name, and one of the
    user's own can import them (`from configs import composition`), or its siblings by the name of
    their folder.
    """
    try:
        return flags.FLAGS(_locate_config(argv))
    except AttributeError as error:  # of ml_collections
        message = str(error).strip("'\"").replace("\\n", ". ").replace("\\", "")
        sys.exit(f"Error: the configuration has no field {message}")
    except (flags.Error, OSError, ValueError) as error:  # may hold the traceback of the file
        sys.exit(f"Error: {str(error).strip().splitlines()[-1].strip()}")


def _locate_config(argv: list[str]) -> list[str]:
    """Expands `~` in --config, checks the file and makes its siblings importable.

    Raises:
        ValueError, FileNotFoundError: ml_collections reports these late, and without the name.
    """
    argv = list(argv)
    for i, argument in enumerate(argv):
        option, separator, value = argument.partition("=")
        index = i if separator else i + 1
        if option not in ("--config", "-config") or index == len(argv):
            continue
        value = str(local_path(value if separator else argv[index], "--config"))
        name, colon, variant = value.partition(":")
        file = _find_config(Path(name))
        _make_importable(file.absolute().parent)
        value = f"{file}{colon}{variant}"
        argv[index] = f"{option}={value}" if separator else value
    return argv


def _find_config(file: Path) -> Path:
    """Returns the file, or the one of CONFIGS with its name: `own_data.py`, `configs/own_data.py`.

    Raises:
        FileNotFoundError: there is neither.
    """
    if file.is_file():
        return file
    ours = CONFIGS / file.name
    if str(file.parent) in (".", "configs") and ours.is_file():
        return ours
    names = ", ".join(sorted(path.name for path in CONFIGS.glob("*.py")))
    raise FileNotFoundError(f"--config={file}: there is no such file; {names} are found anywhere")


def _make_importable(folder: Path) -> None:
    """Makes the package of a folder of configurations, and CONFIGS as `configs`, importable."""
    if folder != CONFIGS:  # above that are packages with names such as `data`
        sys.path.insert(0, str(folder.parent))
    package = types.ModuleType("configs", "Configurations: the user's, then those of rbjax.")
    package.__path__ = [str(path) for path in (folder, CONFIGS) if path.name == "configs"]
    sys.modules["configs"] = package


class ArgumentParser(argparse.ArgumentParser):
    """argparse with absl's --verbosity, and with errors in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_argument(
            "--verbosity", type=int, action=_SetVerbosity, help="1 shows where an error comes from"
        )

    def error(self, message: str) -> NoReturn:
        """Ends the program; `argparse` puts its usage before the message."""
        self.exit(2, f"Error: {message} (--help explains the options)\n")


class _SetVerbosity(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        logging.set_verbosity(values)


def path_argument(text: str) -> Path:
    """Reads a path for `ArgumentParser.add_argument(type=path_argument)`; see `local_path`."""
    try:
        return local_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def log_progress(verbosity: int | None) -> None:
    """Shows what a training logs (steps, rate, ETA) in the terminal, without Orbax's messages.

    Args:
        verbosity: what the user asked for; None is INFO.
    """
    logging.use_absl_handler()
    logging.get_absl_handler().addFilter(_is_not_orbax_info)
    logging.set_verbosity(logging.INFO if verbosity is None else verbosity)


def _is_not_orbax_info(record: std_logging.LogRecord) -> bool:
    return "orbax" not in record.pathname or record.levelno > std_logging.INFO


@contextlib.contextmanager
def one_line_errors(memory: str) -> Iterator[None]:
    """Ends the program with one line where the user can put something right.

    Args:
        memory: what to change where the device's memory is too small.
    """
    try:
        yield
    except (ValueError, OSError, ModuleNotFoundError) as error:  # the last of optional packages
        if logging.get_verbosity() >= logging.DEBUG:
            raise
        sys.exit(f"Error: {error} (--verbosity=1 shows where this comes from)")
    except RuntimeError as error:  # JAX's own is one; it is not imported here
        if logging.get_verbosity() >= logging.DEBUG or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        sys.exit(f"Error: not enough memory on the device: {memory}")
