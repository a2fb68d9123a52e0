"""What an update costs as its work grows: references, resolution, devices.

    python -m scripts.benchmarks.growth --references 1 2 4 8 --size 64 128 256 --devices 2 4 8

Compiles the update of `configs/composition.py` for virtual CPU devices, from shapes alone, and
prints for each case what one device has to do: floating-point operations, bytes of its memory
(state and batch; what is kept while it computes), and collectives with their bytes. The batch stays
the same over all devices, so that operations and memory of each should fall. Nothing is timed:
virtual devices share the cores. `records.py` has what grows with the number of records.
"""

import argparse
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"  # nothing is run

import jax
from ml_collections import ConfigDict

from configs import composition
from rbjax.parallel import program
from rbjax.train import ahead_of_time

AXES = ("data", "fsdp", "tensor")
HEADER = (
    "| case | GFLOP | state and batch, MiB | work, MiB | collectives | exchanged, MiB |\n"
    "| --- | ---: | ---: | ---: | --- | ---: |"
)


class Cost(NamedTuple):
    """What one device has to do in an update.

    Attributes:
        operations: floating-point operations.
        arguments: bytes of state and batch.
        work: bytes that it needs beside these.
        collectives: how many there are of each kind.
        exchanged: bytes of their results.
    """

    operations: float
    arguments: int
    work: int
    collectives: dict[str, int]
    exchanged: int


def cases(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Yields names of cases, changes of the configuration by field, numbers of devices."""
    for count in args.references:
        faces = -(-count // 2)
        changes = {"data.faces": faces, "data.clothes": count - faces}
        yield f"{count} references", changes, 1
    for size in args.size:
        yield f"{size} px", {"data.size": size}, 1
    for axis in AXES:
        for devices in args.devices:
            mesh = {f"mesh.{name}": devices if name == axis else 1 for name in AXES}
            yield f"{axis} {devices}", mesh, devices


def measure(config: ConfigDict, devices: int) -> Cost:
    """Compiles the update for so many devices."""
    exp = ahead_of_time.make_experiment(config, jax.devices()[:devices])
    compiled = ahead_of_time.lower_training(exp).compile()
    need, found = program.memory(compiled), program.collectives(compiled.as_text())
    return Cost(
        operations=program.operations(compiled),
        arguments=need["arguments"],
        work=need["work"],
        collectives={kind: n for kind, (n, _) in program.summary(found).items()},
        exchanged=sum(each.size for each in found),
    )


def format_row(name: str, cost: Cost) -> str:
    """Returns a line of the table."""
    numbers = (cost.operations / 1e9, cost.arguments / 2**20, cost.work / 2**20)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(cost.collectives.items())) or "none"
    cells = [*(f"{number:,.1f}" for number in numbers), kinds, f"{cost.exchanged / 2**20:,.1f}"]
    return f"| {name} | {' | '.join(cells)} |"


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--references", type=int, nargs="*", default=(1, 2, 4, 8), help="of an example")
    add("--size", type=int, nargs="*", default=(64, 128, 256), help="pixels")
    add("--devices", type=int, nargs="*", default=(2, 4, 8), help="of each axis of the mesh")
    add("--batch_size", type=int, default=32, help="examples of an update (default: 32)")
    add("--data_dir", default="", help="of TFDS")
    args = parser.parse_args(argv)
    print(HEADER)
    for name, changes, devices in cases(args):
        config = composition.get_config()
        config.update_from_flattened_dict(
            {"data_dir": args.data_dir, "batch_size": args.batch_size, **changes}
        )
        print(format_row(name, measure(config, devices)), flush=True)


if __name__ == "__main__":
    main()
