"""Paths of the commands' options."""

import argparse
import os
import pathlib
import re

SCHEME = re.compile(r"[A-Za-z][\w+.-]+:/", re.ASCII)


def local_path(text: str) -> pathlib.Path:
    """Reads a path of this machine for argparse, which shows the error; `~` is expanded.

    The shell does not expand `~` after `=`, and pathlib raises for a user that is unknown.

    Raises:
        ArgumentTypeError: it is a URL, of which pathlib would make a folder here.
    """
    if SCHEME.match(text):
        raise argparse.ArgumentTypeError(
            f"{text} is a URL; only files and folders of this machine can be used here: copy it, "
            "or mount what holds it"
        )
    return pathlib.Path(os.path.expanduser(text))


def shown(path: str) -> str:
    """Returns a path as UTF-8 that can be printed and stored; other bytes become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
