"""Time, memory and arithmetic of training and generating at Stable Diffusion 1.5's size.

Run:  python -m scripts.benchmarks.train_step [--size 384 512] [--batch_size 8] [--images 4]

The update is the one of `configs/composition.py:sd15`, on random weights and pictures, so nothing
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

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from configs import composition
from rbjax.diffusion.guidance import Sampling, make_generate
from rbjax.diffusion.schedule import Schedule
from rbjax.interop import stable_diffusion
from rbjax.models import attention
from rbjax.models import params as params_lib
from rbjax.models.autoencoder_kl import AutoencoderKLConfig
from rbjax.models.batch import Batch
from rbjax.models.clip_text import CLIPTextConfig
from rbjax.models.params import shapes
from rbjax.models.pipeline import Pipeline
from rbjax.models.unet_config import UNetConfig
from rbjax.parallel import mesh as meshes
from rbjax.train import state as states
from rbjax.train import step

VOCABULARY, TOKENS = 49408, 77  # CLIP's
WARMUP = 3  # updates that are not counted
GENERATIONS = 5
TEXT = CLIPTextConfig(
    vocab_size=VOCABULARY, hidden_size=768, intermediate_size=3072, num_attention_heads=12
)
PARTS = stable_diffusion.Parts(UNetConfig(), AutoencoderKLConfig(), TEXT)
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

HEADER = (
    f"{'':16}{'':10}{'px':>5}{'batch':>7}{'ms':>10}{'images/s':>10}{'GiB':>8}{'MFU, %':>8}"
    f"{'compile, s':>12}"
)


def parser() -> argparse.ArgumentParser:
    """The options, which scripts/benchmarks/torch_peer.py shares."""
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = made.add_argument
    add("--size", type=int, nargs="+", default=[384], help="pixels of targets and references")
    add("--batch_size", type=int, default=8, help="examples of an update")
    add("--references", type=int, default=4, help="of an example")
    add("--remat", action="store_true", help="compute activations twice, to keep fewer")
    add("--dtype", default="bfloat16", help="of the computation; CPUs want float32")
    add("--steps", type=int, default=50, help="updates that the median is taken of")
    add("--images", type=int, default=0, help="also generate so many at once; 0 = do not")
    add("--json", help="file for the figures")
    add("--tiny", action="store_true", help="a small model, to see whether the program works")
    return made


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    args = parser().parse_args(argv)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, batch {args.batch_size}")
    print(HEADER)
    rows = []
    for size in args.size:
        rows.append({"what": "train", **measure_training(args, size)})
        print(line("rbjax", rows[-1]), flush=True)
        if args.images:
            rows.append({"what": "generate", **measure_generating(args, size)})
            print(line("rbjax", rows[-1]), flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows))


def line(name: str, row: dict) -> str:
    """A row of the table; ms are of one update, or of all steps of one batch of images."""
    seconds, peak = row["seconds"], row.get("peak")
    mfu = f"{100 * row['flops'] / seconds / peak:8.1f}" if peak else f"{'-':>8}"
    cells = f"{1000 * seconds:10.1f}{row['batch_size'] / seconds:10.2f}{row['memory']:8.1f}"
    head = f"{name:16}{row['what']:10}{row['size']:5}{row['batch_size']:7}"
    return f"{head}{cells}{mfu}{row['compile']:12.0f}"


def measure_training(args: argparse.Namespace, size: int) -> dict:
    """The figures of an update."""
    config = sd15(size, args)
    mesh = meshes.make_mesh(-1, 1, 1)
    graphdef, make_params = model(config)
    update = make_update(config, graphdef)
    with jax.set_mesh(mesh):
        state, shardings = states.create(
            make_params, config.train, total_steps=config.total_steps, mesh=mesh
        )
        batch = jax.device_put(
            make_batch(size, args.batch_size, args.references), meshes.batch_sharding(mesh)
        )
        running = jax.device_put(step.TrainMetrics.empty(), meshes.replicated(mesh))
        flops = model_flops(config, state, running, batch)
        outs = (shardings, meshes.replicated(mesh))
        jitted = jax.jit(update, donate_argnums=(0, 1), out_shardings=outs)
        compiled, compile_time = compile_timed(jitted, state, running, batch)
        times = []
        for _ in range(args.steps + WARMUP):
            start = time.perf_counter()
            state, running = jax.block_until_ready(compiled(state, running, batch))
            times.append(time.perf_counter() - start)
    loss = float(running.compute()["loss"])
    if not np.isfinite(loss):
        raise SystemExit(f"Error: the loss is {loss}: the figures mean nothing")
    return {
        "size": size,
        "batch_size": args.batch_size,
        "seconds": statistics.median(times[WARMUP:]),
        "compile": compile_time,
        "memory": memory(compiled),
        "flops": flops,
        "peak": peak_flops(),
    }


def measure_generating(args: argparse.Namespace, size: int) -> dict:
    """The figures of all sampling steps with both guidances, each image of its own references.

    Weights are held in the type of the computation.
    """
    config = sd15(size, args)
    graphdef, make_params = model(config)
    dtype = jnp.dtype(args.dtype)
    params = jax.jit(lambda: jax.tree.map(lambda x: x.astype(dtype), make_params()))()
    sampling = Sampling.from_config(config.sampling)
    empty = jnp.zeros(TOKENS, jnp.int32)
    schedule = Schedule(**dict(config.noise_schedule))
    generate = make_generate(graphdef, schedule=schedule, sampling=sampling, empty_prompt=empty)
    batch = jax.device_put(make_batch(size, args.images, args.references))
    arguments = (params, batch, jnp.arange(args.images, dtype=jnp.uint32))
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
        "memory": memory(compiled),
    }


def compile_timed(jitted, *arguments):
    """(the compiled function, seconds that it took)."""
    start = time.perf_counter()
    compiled = jitted.lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def memory(compiled) -> float:
    """GiB of a device that a compiled program takes: arguments, results and what is between."""
    stats = compiled.memory_analysis()
    held = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    return (held + stats.temp_size_in_bytes) / 2**30


def peak_flops() -> float:
    """What all devices can do at best; 0 = unknown."""
    kind = jax.devices()[0].device_kind
    return next((v for k, v in PEAKS.items() if kind.startswith(k)), 0.0) * jax.device_count()


def sd15(size: int, args: argparse.Namespace) -> ConfigDict:
    """The variant sd15 with Stable Diffusion 1.5's sizes in place of a folder."""
    config = composition.sd15()
    parts = tiny_parts() if args.tiny else PARTS
    config = stable_diffusion.with_parts(config, parts)
    changes = {
        "data.size": size,
        "batch_size": args.batch_size,
        "train.accumulate": 1,
        "model.unet.remat": args.remat,
        "model.unet.dtype": args.dtype,
        "model.vae.dtype": args.dtype,
        "noise_schedule.betas": "scaled_linear",
        "noise_schedule.prediction_type": "epsilon",
    }
    config.update_from_flattened_dict(changes)
    return config


def tiny_parts() -> stable_diffusion.Parts:
    """A model of the same parts that a CPU runs in seconds."""
    unet = UNetConfig(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=24,
    )
    vae = AutoencoderKLConfig(block_out_channels=(4, 8, 8, 8), norm_num_groups=2)
    text = CLIPTextConfig(
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=48, num_hidden_layers=1
    )
    return stable_diffusion.Parts(unet, vae, text)


def model(config: ConfigDict):
    """(graph of the pipeline, a function that makes random parameters)."""

    def make(rngs: nnx.Rngs) -> Pipeline:
        return Pipeline(config.model, vocab_size=VOCABULARY, max_tokens=TOKENS, rngs=rngs)

    graphdef, params = nnx.split(shapes(make), ...)

    def random_params() -> params_lib.Tree:
        leaves, tree = jax.tree.flatten(nnx.to_pure_dict(params))
        keys = jax.random.split(jax.random.key(0), len(leaves))
        made = [0.02 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, made)

    return graphdef, random_params


def make_update(config: ConfigDict, graphdef: nnx.GraphDef):
    """The update of training."""
    return step.make_update(
        graphdef,
        schedule=Schedule(**dict(config.noise_schedule)),
        config=config.train,
        total_steps=config.total_steps,
        key=jax.random.key(0),
    )


def make_batch(size: int, count: int, references: int) -> Batch:
    """Random images and prompts."""
    random = np.random.default_rng(0)
    return Batch(
        target=random.integers(0, 256, (count, size, size, 3), np.uint8),
        prompt=random.integers(0, VOCABULARY, (count, TOKENS), np.int32),
        references=random.integers(0, 256, (count, references, size, size, 3), np.uint8),
        concepts=random.integers(0, VOCABULARY, (count, references, 3), np.int32),
        reference_mask=np.ones((count, references), bool),
        index=np.arange(count, dtype=np.int32),
    )


def model_flops(config: ConfigDict, state, running, batch) -> float:
    """Floating-point operations of an update, counted by XLA in the program before optimisation."""
    plain = config.copy_and_resolve_references()
    plain.model.unet.remat = False
    large, attention.LARGE = attention.LARGE, sys.maxsize  # a fused kernel's are not counted
    try:
        update = make_update(plain, model(plain)[0])
        return jax.jit(update).lower(state, running, batch).cost_analysis()["flops"]
    finally:
        attention.LARGE = large


if __name__ == "__main__":
    main()
