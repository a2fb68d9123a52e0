"""The command that trains the base model, as its docstring spells it."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_it_starts_as_documented():
    found = subprocess.run(
        [sys.executable, "-m", "scripts.train_base", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "--workdir" in found.stdout and "--out" in found.stdout
