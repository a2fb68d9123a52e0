"""Time of a sampling step with references, beside a step of the plain UNet.

python -m scripts.benchmarks.generate [--sd15]

With reference_timestep="zero" the references' keys and values are computed once an image and each
step only attends to them. Weights are constant: time does not depend on them. The two kinds of
steps take turns; medians.
"""

import argparse
import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
from flax import nnx

from configs import composition
from rbjax.models import params as params_lib
from rbjax.models.pipeline import retrinet_config
from rbjax.models.retrinet import RetriNet, RetriNetConfig
from rbjax.models.unet_config import UNetConfig


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line (`argv` in its place)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--sd15", action="store_true", help="also Stable Diffusion 1.5's shapes (8 GiB, minutes)")
    add("--references", type=int, nargs="+", default=[1, 2, 4], help="numbers of references")
    add("--batch_size", type=int, default=1, help="images at once")
    add("--repeats", type=int, default=15, help="steps that the median is taken of")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    args = parse_args(argv)
    device = jax.devices()[0]
    print(f"{device.device_kind} ({device.platform}), batch {args.batch_size}, float32")
    print(f"{'model':16}{'references':>12}{'UNet, ms':>12}{'RetriNet, ms':>14}{'ratio':>8}")
    for name, config, *sizes in [avatars(), *([sd15()] if args.sd15 else [])]:
        shapes = params_lib.shapes(lambda rngs, config=config: RetriNet(config, rngs))
        graphdef, params = nnx.split(shapes)
        params = jax.tree.map(lambda x: jnp.full(x.shape, 0.01, x.dtype), params)
        for count in args.references:
            steps = make_steps(graphdef, params, config.unet, *sizes, args.batch_size, count)
            plain, full = medians(steps, args.repeats)
            cells = f"{1000 * plain:12.1f}{1000 * full:14.1f}{full / plain:8.2f}"
            print(f"{name:16}{count:12}{cells}", flush=True)


def avatars() -> tuple[str, RetriNetConfig, int, int]:
    """The default experiment's name, RetriNet, side of the latents and tokens of a prompt."""
    config = composition.get_config()
    retrinet = dataclasses.replace(retrinet_config(config.model), reference_timestep="zero")
    side = config.data.size // config.model.patch
    return f"avatars, {config.data.size} px", retrinet, side, config.data.max_tokens


def sd15() -> tuple[str, RetriNetConfig, int, int]:
    """The same of Stable Diffusion 1.5 at 384 px."""
    retrinet = RetriNetConfig(UNetConfig(), 8, positions=False, reference_timestep="zero")
    return "SD 1.5, 384 px", retrinet, 48, 77


def make_steps(graphdef, params, unet: UNetConfig, side, tokens, batch: int, count: int) -> list:
    """Functions without arguments: a step of the UNet, and one with `count` references."""
    normal = iter(jax.random.split(jax.random.key(0), 4))
    latents = jax.random.normal(next(normal), (batch, side, side, unet.in_channels))
    prompt = jax.random.normal(next(normal), (batch, tokens, unet.cross_attention_dim))
    references = jax.random.normal(next(normal), (batch, count, *latents.shape[1:]))
    concepts = jax.random.normal(next(normal), (batch, count, 3, unet.cross_attention_dim))
    times, mask = jnp.full(batch, 500.0), jnp.ones((batch, count), bool)

    @jax.jit
    def encode(params):
        return nnx.merge(graphdef, params).encode_references(references, concepts, times)

    @jax.jit
    def plain(params):
        return nnx.merge(graphdef, params).unet(latents, times, prompt)

    @jax.jit
    def full(params, keys_values):
        return nnx.merge(graphdef, params).denoise(
            latents, times, prompt=prompt, references=keys_values, mask=mask
        )

    once = encode(params)
    return [lambda: plain(params), lambda: full(params, once)]


def medians(steps: list, repeats: int) -> list[float]:
    """Median seconds of each function, called in turns after a first, untimed call."""
    for step in steps:
        jax.block_until_ready(step())
    times = [[timed(step) for step in steps] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def timed(step) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
