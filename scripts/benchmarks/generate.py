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
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from configs import composition
from rbjax.experiment import setup
from rbjax.models import params as params_lib
from rbjax.models.pipeline import latent_pixels, retrinet_config
from rbjax.models.retrinet import References, RetriNet, RetriNetConfig
from rbjax.models.unet_config import UNetConfig

Step = Callable[[], jax.Array]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
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
            example = make_example(
                config.unet, *sizes, batch_size=args.batch_size, references=count
            )
            plain, full = median_times(make_steps(graphdef, params, example), args.repeats)
            cells = f"{1000 * plain:12.1f}{1000 * full:14.1f}{full / plain:8.2f}"
            print(f"{name:16}{count:12}{cells}", flush=True)


def avatars() -> tuple[str, RetriNetConfig, int, int]:
    """Returns the default experiment's name, RetriNet, side of the latents, tokens of a prompt."""
    config = setup.resolve(composition.get_config()).config
    retrinet = dataclasses.replace(retrinet_config(config.model), reference_timestep="zero")
    side = config.data.size // latent_pixels(config.model)
    return f"avatars, {config.data.size} px", retrinet, side, config.data.max_tokens


def sd15() -> tuple[str, RetriNetConfig, int, int]:
    """Returns the same of Stable Diffusion 1.5 at 384 px."""
    retrinet = RetriNetConfig(UNetConfig(), 8, positions=False, reference_timestep="zero")
    return "SD 1.5, 384 px", retrinet, 48, 77


@dataclasses.dataclass(frozen=True)
class Example:
    """Random inputs of a step, and all references visible.

    Axes: B batch, R references, h w latent, C latent channels, T tokens, D text width.

    Attributes:
        latents: [B, h, w, C].
        prompt: [B, T, D].
        references: [B, R, h, w, C].
        concepts: [B, R, 3, D].
    """

    latents: jax.Array
    prompt: jax.Array
    references: jax.Array
    concepts: jax.Array

    @property
    def times(self) -> jax.Array:
        """Float32 [B]."""
        return jnp.full(len(self.latents), 500.0)

    @property
    def mask(self) -> jax.Array:
        """Bool [B, R]."""
        return jnp.ones(self.references.shape[:2], bool)


def make_example(
    unet: UNetConfig, side: int, tokens: int, *, batch_size: int, references: int
) -> Example:
    """Builds the inputs of a step from latents of `side` and prompts of `tokens`."""
    keys = jax.random.split(jax.random.key(0), 4)
    latent, width = (side, side, unet.in_channels), unet.cross_attention_dim
    return Example(
        latents=jax.random.normal(keys[0], (batch_size, *latent)),
        prompt=jax.random.normal(keys[1], (batch_size, tokens, width)),
        references=jax.random.normal(keys[2], (batch_size, references, *latent)),
        concepts=jax.random.normal(keys[3], (batch_size, references, 3, width)),
    )


def make_steps(graphdef: nnx.GraphDef, params: nnx.State, example: Example) -> list[Step]:
    """Returns functions without arguments: a step of the UNet, and one with references."""

    @jax.jit
    def encode(params: nnx.State) -> References:
        retrinet = nnx.merge(graphdef, params)
        return retrinet.encode_references(example.references, example.concepts, example.times)

    @jax.jit
    def plain(params: nnx.State) -> jax.Array:
        unet = nnx.merge(graphdef, params).unet
        return unet(example.latents, example.times, example.prompt)

    @jax.jit
    def full(params: nnx.State, keys_values: References) -> jax.Array:
        return nnx.merge(graphdef, params).denoise(
            example.latents,
            example.times,
            prompt=example.prompt,
            references=keys_values,
            mask=example.mask,
        )

    keys_values = encode(params)
    return [lambda: plain(params), lambda: full(params, keys_values)]


def median_times(steps: list[Step], repeats: int) -> list[float]:
    """Returns the median seconds of each function, called in turns after an untimed call."""
    for step in steps:
        jax.block_until_ready(step())
    times = [[time_call(step) for step in steps] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def time_call(step: Step) -> float:
    """Returns the seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
