"""Several processes of one run: how they find each other, and what the first of them does alone.

Each process computes on its own devices, in the same order as the others. They share a file
system; files are written by process 0, but for checkpoints, of which each writes its shards.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

DAY = 24 * 3600 * 1000  # in ms: building a large data set takes hours
DEVICES = pathlib.Path("/dev")
_calls = itertools.count()  # the same in all processes


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connects the processes of a run; a run of one process needs nothing.

    On TPU slices and under Slurm JAX finds the others itself. Elsewhere all three are given. Only
    process 0 prints afterwards; warnings and errors are those of all.

    Args:
        coordinator: HOST:PORT of process 0.
        num_processes: of the run.
        process_id: of this one, from 0.

    Raises:
        ValueError: only some of them are given, or the number is not one of the processes.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise ValueError(
            "--coordinator, --num_processes and --process_id go together: give all three to every "
            "process, or none of them on TPU slices and under Slurm"
        )
    if num_processes is not None and process_id is not None:
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"--process_id={process_id} with --num_processes={num_processes}: number the "
                f"processes from 0 to {num_processes - 1}"
            )
        jax.distributed.initialize(
            coordinator, num_processes, process_id, cluster_detection_method="deactivate"
        )
    elif _is_slurm() or _is_tpu():
        jax.distributed.initialize(local_device_ids=_gpus_of_an_only_task())
    if not is_primary():
        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends


def _is_slurm() -> bool:
    """Returns whether `srun` started this process as one of several."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def _gpus_of_an_only_task() -> list[int] | None:
    """Returns all GPUs of this host where Slurm started one process there; None: JAX decides.

    JAX gives each process of Slurm one GPU, also where there are more GPUs than processes.
    """
    is_alone = re.fullmatch(r"1(\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    count = int(os.environ.get("SLURM_GPUS_ON_NODE", "0"))
    return list(range(count)) if is_alone and count else None


def _is_tpu() -> bool:
    """Returns whether this machine has TPU chips and JAX may use them; asking JAX starts it.

    Every Linux host may have /dev/vfio/vfio, and those with an NPU the folder /dev/accel.
    """
    platforms = os.environ.get("JAX_PLATFORMS") or "tpu"
    chips = ("accel[0-9]*", "vfio/[0-9]*")
    has_chips = any(any(DEVICES.glob(pattern)) for pattern in chips)
    return "tpu" in platforms and has_chips and importlib.util.find_spec("libtpu") is not None


def connect(mesh: jax.sharding.Mesh) -> None:
    """Connects the processes for every group of devices that exchange along axes of a mesh.

    XLA connects a group at its first exchange, and on CPUs gives up where a process comes 30 s
    after another one, because it compiled for longer, say. A group that is connected waits far
    longer. Nothing is done on other devices: their libraries need no help.
    """
    if jax.process_count() == 1 or mesh.devices.flat[0].platform != "cpu":
        return
    axes = [name for name in mesh.axis_names if mesh.shape[name] > 1]
    numbers = range(1, len(axes) + 1)
    groups = [group for n in numbers for group in itertools.combinations(axes, n)]

    def exchange(x: jax.Array) -> list[jax.Array]:
        return [jax.lax.psum(x, group) for group in groups]

    split = PartitionSpec(mesh.axis_names)
    sums = jax.shard_map(exchange, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    zeros, sharding = np.zeros(mesh.size, np.float32), NamedSharding(mesh, split)
    x = jax.make_array_from_callback(zeros.shape, sharding, lambda index: zeros[index])
    compiled = jax.jit(sums).lower(x).compile()
    wait_for_all()
    jax.block_until_ready(compiled(x))


def wait_for_all() -> None:
    """Waits until all processes are here.

    A command ends with it, since a process that ends 5 minutes before another one aborts that one.
    """
    if jax.process_count() > 1:
        ocp.multihost.get_jax_distributed_client().wait_at_barrier(_new_key(), DAY)


def is_primary() -> bool:
    """Returns whether this is the process that writes files and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def primary_first() -> Iterator[None]:
    """Runs the block in process 0, then in the others, which find what it has written.

    Nothing in the block may compute on all devices.

    Raises:
        ValueError: in the others, where the block failed in process 0.
    """
    if jax.process_count() == 1:
        yield
        return
    key = _new_key()
    if not is_primary():
        _receive(key)
        yield
        return
    with _send(key):
        yield


def from_primary(make: Callable[[], str]) -> str:
    """Returns what `make` returns in process 0, to all.

    Raises:
        ValueError: in the others, where it failed in process 0.
    """
    if jax.process_count() == 1:
        return make()
    key = _new_key()
    if not is_primary():
        return _receive(key)
    with _send(key) as content:
        content["value"] = make()
    return content["value"]


def _new_key() -> str:
    return f"rbjax/{next(_calls)}"


@contextlib.contextmanager
def _send(key: str) -> Iterator[dict[str, str]]:
    """Sends the dictionary to the other processes, when the block ends or fails."""
    content = {"value": ""}
    try:
        yield content
    except BaseException as error:
        content["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        client = ocp.multihost.get_jax_distributed_client()
        client.key_value_set(key, json.dumps(content))


def _receive(key: str) -> str:
    client = ocp.multihost.get_jax_distributed_client()
    content = json.loads(client.blocking_key_value_get(key, DAY))
    if "error" in content:
        raise ValueError(f"process 0 failed: {content['error']}")
    return content["value"]
