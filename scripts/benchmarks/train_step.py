"""Time, memory and arithmetic of training and generating at Stable Diffusion 1.5's size.

python -m scripts.benchmarks.train_step [--size 384 512] [--batch_size 8] [--images 4]

The update is the one of `configs/composition.py:sd15`, on random weights and images, so nothing
is downloaded; reading data is not part of it (input_pipeline.py measures that). MFU is the
arithmetic of the model, without what is computed twice to save memory, over what the device can do
at best in bfloat16. `torch_peer.py` puts PyTorch beside it.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Collection
from flax import nnx
from jax.stages import Compiled, Wrapped
from ml_collections import ConfigDict

from rbjax.diffusion.guidance import Sampling, make_generate
from rbjax.diffusion.schedule import Schedule
from rbjax.models import attention
from rbjax.models.batch import Batch
from rbjax.models.params import Tree, shapes
from rbjax.models.pipeline import Pipeline
from rbjax.parallel import mesh as meshes
from rbjax.train import state as states
from rbjax.train import step
from rbjax.train.state import TrainState
from scripts.benchmarks import sd15_model
from scripts.benchmarks.sd15_model import GENERATIONS, TOKENS, VOCABULARY, WARMUP, Row

# bfloat16 operations per second of one device, dense, by the makers' data sheets.
PEAKS = {  # device_kind, or what it begins with
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100": 312e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,  # v5p
    "TPU v6 lite": 918e12,
}


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    args = sd15_model.make_parser(__doc__.split("\n")[0]).parse_args(argv)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, batch {args.batch_size}")
    print(sd15_model.HEADER)
    rows = []
    for size in args.size:
        rows.append({"what": "train", **measure_training(args, size)})
        print(sd15_model.format_row("rbjax", rows[-1]), flush=True)
        if args.images:
            rows.append({"what": "generate", **measure_generating(args, size)})
            print(sd15_model.format_row("rbjax", rows[-1]), flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows))


def measure_training(args: argparse.Namespace, size: int) -> Row:
    """Returns the figures of an update."""
    config = sd15_model.make_config(args, size)
    mesh = meshes.make_mesh(-1, 1, 1)
    graphdef, make_params = make_model(config)
    batch = sd15_model.make_batch(size, count=args.batch_size, references=args.references)
    with jax.set_mesh(mesh):
        state, shardings = states.create(
            make_params, config.train, total_steps=config.total_steps, mesh=mesh
        )
        batch = jax.device_put(batch, meshes.batch_sharding(mesh))
        metrics = jax.device_put(step.TrainMetrics.empty(), meshes.replicated(mesh))
        flops = count_flops(config, state, metrics, batch)
        update = jax.jit(
            make_update(config, graphdef),
            donate_argnums=(0, 1),
            out_shardings=(shardings, meshes.replicated(mesh)),
        )
        compiled, compile_time = compile_timed(update, state, metrics, batch)
        times = []
        for _ in range(args.steps + WARMUP):
            start = time.perf_counter()
            state, metrics = jax.block_until_ready(compiled(state, metrics, batch))
            times.append(time.perf_counter() - start)
    loss = float(metrics.compute()["loss"])
    if not np.isfinite(loss):
        raise SystemExit(f"Error: the loss is {loss}: the figures mean nothing")
    return {
        "size": size,
        "batch_size": args.batch_size,
        "seconds": statistics.median(times[WARMUP:]),
        "compile": compile_time,
        "memory": device_memory(compiled),
        "flops": flops,
        "peak": peak_flops(),
    }


def measure_generating(args: argparse.Namespace, size: int) -> Row:
    """Returns the figures of all sampling steps with both guidances.

    Each image has its own references. Weights are held in the type of the computation.
    """
    config = sd15_model.make_config(args, size)
    graphdef, make_params = make_model(config)
    dtype = jnp.dtype(args.dtype)
    params = jax.jit(lambda: jax.tree.map(lambda x: x.astype(dtype), make_params()))()
    generate = make_generate(
        graphdef,
        schedule=Schedule(**dict(config.noise_schedule)),
        sampling=Sampling.from_config(config.sampling),
        empty_prompt=jnp.zeros(TOKENS, jnp.int32),
    )
    batch = sd15_model.make_batch(size, count=args.images, references=args.references)
    arguments = (params, jax.device_put(batch), jnp.arange(args.images, dtype=jnp.uint32))
    compiled, compile_time = compile_timed(jax.jit(generate), *arguments)
    times = []
    for _ in range(GENERATIONS + 1):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return {
        "size": size,
        "batch_size": args.images,
        "seconds": statistics.median(times[1:]),
        "compile": compile_time,
        "memory": device_memory(compiled),
    }


def compile_timed(function: Wrapped, *arguments: object) -> tuple[Compiled, float]:
    """Compiles; returns the result and the seconds that it took."""
    start = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def device_memory(compiled: Compiled) -> float:
    """Returns GiB of a device that a program takes: arguments, results and what is between."""
    stats = compiled.memory_analysis()
    held = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    return (held + stats.temp_size_in_bytes) / 2**30


def peak_flops() -> float:
    """Returns what all devices can do at best; 0 = unknown."""
    kind = jax.devices()[0].device_kind
    return next((v for k, v in PEAKS.items() if kind.startswith(k)), 0.0) * jax.device_count()


def make_model(config: ConfigDict) -> tuple[nnx.GraphDef, Callable[[], Tree]]:
    """Returns the graph of the pipeline, and a function that makes random parameters."""

    def make(rngs: nnx.Rngs) -> Pipeline:
        return Pipeline(config.model, vocab_size=VOCABULARY, max_tokens=TOKENS, rngs=rngs)

    graphdef, params = nnx.split(shapes(make), ...)

    def random_params() -> Tree:
        leaves, tree = jax.tree.flatten(nnx.to_pure_dict(params))
        keys = jax.random.split(jax.random.key(0), len(leaves))
        arrays = [0.02 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, arrays)

    return graphdef, random_params


def make_update(config: ConfigDict, graphdef: nnx.GraphDef) -> step.Update:
    """Returns the update of training."""
    return step.make_update(
        graphdef,
        schedule=Schedule(**dict(config.noise_schedule)),
        config=config.train,
        total_steps=config.total_steps,
        key=jax.random.key(0),
    )


def count_flops(config: ConfigDict, state: TrainState, metrics: Collection, batch: Batch) -> float:
    """Returns the floating-point operations of an update, by XLA, before optimisation."""
    plain = config.copy_and_resolve_references()
    plain.model.unet.remat = False
    large, attention.LARGE = attention.LARGE, sys.maxsize  # a fused kernel's are not counted
    try:
        update = make_update(plain, make_model(plain)[0])
        return jax.jit(update).lower(state, metrics, batch).cost_analysis()["flops"]
    finally:
        attention.LARGE = large


if __name__ == "__main__":
    main()
