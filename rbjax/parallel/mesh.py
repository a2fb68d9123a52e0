"""The device mesh: axes `data` (copies), `fsdp` (split parameters), `tensor` (split layers)."""

from collections.abc import Sequence

import jax
import numpy as np
from absl import logging
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))


def make_mesh(
    data: int, fsdp: int, tensor: int, *, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
    """Returns a mesh of data x fsdp x tensor devices; data=-1 takes all that the others leave.

    Warns of devices that are left over.

    Raises:
        ValueError: the product is more than the number of devices, or a factor is below 1.
    """
    available = jax.devices() if devices is None else list(devices)
    count = len(available)
    if data == -1:
        data = max(1, count // max(1, fsdp * tensor))
    if data * fsdp * tensor > count or min(data, fsdp, tensor) < 1:
        raise ValueError(
            f"config.mesh: data={data} x fsdp={fsdp} x tensor={tensor} needs "
            f"{data * fsdp * tensor} devices, but there are {count} ({available[0].platform}): "
            "give factors of at least 1 with a product of at most that, or data=-1 for all devices "
            "that fsdp and tensor leave."
        )
    chosen = available[: data * fsdp * tensor]
    if len(chosen) < count and jax.process_count() > 1:
        raise ValueError(
            f"config.mesh uses {len(chosen)} of {count} devices, but with several processes it "
            "has to use all: set config.mesh.data=-1"
        )
    if len(chosen) < count:
        logging.warning("config.mesh uses %d of %d devices", len(chosen), count)
    return jax.make_mesh(
        (data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3, devices=chosen
    )


def check_batch(
    mesh: jax.sharding.Mesh, batch_size: int, *, field: str = "config.batch_size", parts: int = 1
) -> None:
    """Checks that a batch divides over the mesh and `parts` of gradient accumulation.

    Raises:
        ValueError: it does not; the message names `field`.
    """
    if parts < 1:
        raise ValueError(f"config.train.accumulate={parts}: must be at least 1")
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    factor = devices * parts
    if batch_size % factor or batch_size < 1:
        accumulated = f" x train.accumulate = {factor}" if parts > 1 else ""
        raise ValueError(
            f"{field}={batch_size} does not divide by mesh.data x mesh.fsdp = {devices}"
            f"{accumulated}: use a positive multiple of {factor}."
        )


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the sharding of the first axis over data and fsdp."""
    return NamedSharding(mesh, BATCH)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the sharding with a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def local_rows(sharding: jax.sharding.Sharding, size: int) -> np.ndarray:
    """Returns which of `size` rows this process's devices hold, int [n], each once."""
    slices = sharding.addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([np.arange(size)[index] for index in slices]))


def global_rows(sharding: jax.sharding.Sharding, count: int) -> tuple[np.ndarray, int]:
    """Returns (`local_rows`, size) where a process's share is `count` rows."""
    slices = sharding.devices_indices_map((sharding.num_devices,)).values()
    parts = len({tuple(np.arange(sharding.num_devices)[index]) for index in slices})
    size = count * parts // len(local_rows(sharding, parts))
    return local_rows(sharding, size), size
