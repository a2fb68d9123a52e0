"""The device mesh: axes `data` (copies), `fsdp` (split parameters), `tensor` (split layers)."""

import jax
from absl import logging
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))


def make_mesh(data: int, fsdp: int, tensor: int) -> jax.sharding.Mesh:
    """Returns a mesh of data x fsdp x tensor devices; data=-1 takes all that the others leave.

    Warns of devices that are left over.

    Raises:
        ValueError: the product is more than the number of devices, or a factor is below 1.
    """
    devices = jax.device_count()
    if data == -1:
        data = max(1, devices // max(1, fsdp * tensor))
    if data * fsdp * tensor > devices or min(data, fsdp, tensor) < 1:
        raise ValueError(
            f"config.mesh: data={data} x fsdp={fsdp} x tensor={tensor} needs "
            f"{data * fsdp * tensor} devices, but there are {devices} ({jax.default_backend()}): "
            "give factors of at least 1 with a product of at most that, or data=-1 for all devices "
            "that fsdp and tensor leave."
        )
    chosen = jax.devices()[: data * fsdp * tensor]
    if len(chosen) < devices:
        logging.warning("config.mesh uses %d of %d devices", len(chosen), devices)
    return jax.make_mesh(
        (data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3, devices=chosen
    )


def check_batch(
    mesh: jax.sharding.Mesh, batch_size: int, *, field: str = "config.batch_size", parts: int = 1
) -> None:
    """Checks that a batch divides over mesh, processes and `parts` of gradient accumulation.

    Raises:
        ValueError: it does not; the message names `field`.
    """
    if parts < 1:
        raise ValueError(f"config.train.accumulate={parts}: must be at least 1")
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    factor = devices * parts
    if batch_size % factor or batch_size % jax.process_count() or batch_size < 1:
        accumulated = f" x train.accumulate = {factor}" if parts > 1 else ""
        raise ValueError(
            f"{field}={batch_size} does not divide by mesh.data x mesh.fsdp = {devices}"
            f"{accumulated} (and {jax.process_count()} processes): use a positive multiple of "
            f"{factor}."
        )


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the sharding of the first axis over data and fsdp."""
    return NamedSharding(mesh, BATCH)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the sharding with a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())
