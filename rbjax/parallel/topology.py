"""TPUs that are not there: their devices, to compile for, and how much memory they have."""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from rbjax.parallel import program

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of TPU.

    Attributes:
        memory: usable bytes of a device, as the compiler says (HBM less what it keeps).
        options: of `jax.experimental.topologies.get_topology_desc`.
    """

    memory: int
    options: dict[str, str]


CHIPS = {  # a v4 or v5p chip has two cores that work as one device
    "v4": Chip(int(30.75 * GIB), {"chip_config_name": "megacore"}),
    "v5e": Chip(int(15.75 * GIB), {}),
    "v5p": Chip(int(95.74 * GIB), {"chip_config_name": "megacore"}),
    "v6e": Chip(int(31.25 * GIB), {}),
}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": GIB}
_NEEDED = re.compile(rf"required for HLO temporaries \(([\d.]+)([{''.join(_UNITS)}]?)\)")
_NAME = re.compile(rf"({'|'.join(CHIPS)}):\d+x\d+(x\d+)?")


def set_environment() -> None:
    """Sets what libtpu reads when it is loaded on a machine without TPU; before JAX is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # asks no metadata server
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v4-8")  # any: libtpu wants one
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # of XLA, from -1 (compiles soon) to 1
    os.environ.setdefault("JAX_EXEC_TIME_OPTIMIZATION_EFFORT", "-1.0")


def open_topology(name: str) -> tuple[Chip, list[jax.Device]]:
    """Returns the kind of chip and the devices of a topology such as "v4:2x2x1".

    Raises:
        ValueError: no such topology.
        ModuleNotFoundError: libtpu is not installed.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"--topology={name!r}: give KIND:AxB or KIND:AxBxC with a KIND of {', '.join(CHIPS)}, "
            "for example v4:2x2x1 (four chips)"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError("libtpu is not installed: pip install 'rbjax[tpu]'")
    chip = CHIPS[name.partition(":")[0]]
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **chip.options)
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"--topology={name}: {error}") from error
    return chip, list(found.devices)


def argument_bytes(arguments: Sequence[Any]) -> int:
    """Returns the bytes that a program's arguments take on each device.

    A TPU keeps arrays in tiles, of 128 numbers at least. A program that does nothing says how much
    they take, and is compiled at once.

    Args:
        arguments: trees of `jax.ShapeDtypeStruct` with shardings on devices of a topology.
    """
    lowered = jax.jit(lambda *_: None, keep_unused=True).lower(*arguments)
    try:
        return program.memory(lowered.compile())["arguments"]
    except jax.errors.JaxRuntimeError as error:  # they alone do not fit
        return _needed(error)


def estimate(lowered: jax.stages.Lowered) -> int:
    """Returns about how much memory a program needs on each device of a topology, in bytes.

    The compiler is told that a device has hardly any memory. It then ends with the number that it
    would compare with the real memory, before it generates code, which takes most of the time.
    Arguments and results are in it; code, constants and gaps between arrays, which only the
    compiled program has, are not.
    """
    try:
        lowered.compile(compiler_options={"xla_tpu_max_hbm_size_mib": "1"})
    except jax.errors.JaxRuntimeError as error:
        return _needed(error)
    return 0  # less than that


def _needed(error: jax.errors.JaxRuntimeError) -> int:
    """Returns the bytes in the compiler's error, or raises it where it is another error."""
    if found := _NEEDED.search(str(error)):
        return int(float(found[1]) * _UNITS[found[2]])
    raise error
