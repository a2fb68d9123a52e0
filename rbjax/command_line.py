"""What the commands with the flag --config share: the flag, and one line for a user's mistakes."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator

from absl import flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, FILE.py or FILE.py:VARIANT. Any field can be changed: "
    "--config.FIELD=VALUE; the fields are explained in the file.",
    lock_config=True,
)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; ends the program with one line that says what is wrong with them."""
    try:
        rest = flags.FLAGS(argv)
    except AttributeError as error:  # of ml_collections
        message = str(error).strip("'\"").replace("\\n", ". ").replace("\\", "")
        sys.exit(f"Error: the configuration has no field {message}")
    except (flags.Error, OSError) as error:  # may hold the traceback of the configuration file
        sys.exit(f"Error: {str(error).strip().splitlines()[-1].strip()}")
    file = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
    if not pathlib.Path(file).is_file():  # ml_collections tells it late, and without the name
        sys.exit(f"Error: --config={file}: there is no such file")
    return rest


def set_environment() -> None:
    """What has to be set before JAX and TensorFlow are imported; what is set already stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache/rbjax"))


@contextlib.contextmanager
def one_line_errors(memory: str) -> Iterator[None]:
    """Ends the program with one line where the user can put something right.

    Args:
        memory: what to change where the device's memory is too small.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if logging.get_verbosity() >= logging.DEBUG:
            raise
        sys.exit(f"Error: {error} (--verbosity=1 shows where this comes from)")
    except RuntimeError as error:  # JAX's own is one; it is not imported here
        if logging.get_verbosity() >= logging.DEBUG or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        sys.exit(f"Error: not enough memory on the device: {memory}")
