"""The flag --config of the commands, and one line where flags are wrong."""

import sys

from absl import flags
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
        return flags.FLAGS(argv)
    except AttributeError as error:  # of ml_collections
        message = str(error).strip("'\"").replace("\\n", ". ").replace("\\", "")
        sys.exit(f"Error: the configuration has no field {message}")
    except (flags.Error, OSError) as error:  # may hold the traceback of the configuration file
        sys.exit(f"Error: {str(error).strip().splitlines()[-1].strip()}")
