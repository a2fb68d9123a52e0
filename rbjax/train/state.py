"""The training state: what trains, what is frozen, the averages and the optimiser's moments."""

import re

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct
from ml_collections import ConfigDict

from rbjax.parallel import rules

Tree = dict  # nested dict of arrays, keys are attribute names


@struct.dataclass
class TrainState:
    """One pytree, saved as it is.

    Attributes:
      step: int32 [], updates done.
      trained: parameters that the optimiser changes.
      frozen: the other parameters.
      ema: exponential moving average of `trained`.
      opt_state: of optax, over `trained` alone.
    """

    step: jax.Array
    trained: Tree
    frozen: Tree
    ema: Tree
    opt_state: optax.OptState


def split_trained(params: Tree, trained: list[str], frozen: list[str]) -> tuple[Tree, Tree]:
    """Splits parameters by patterns of their names.

    Args:
      params: nested dict.
      trained: regular expressions, matched from the start of "a/b/0/kernel".
      frozen: likewise.

    Raises:
      ValueError: a parameter matches both lists or none; it lists all of them.
    """
    flat = nnx.traversals.flatten_mapping(params)
    names = {path: "/".join(map(str, path)) for path in flat}
    hits = {path: (matches(name, trained), matches(name, frozen)) for path, name in names.items()}
    wrong = [f"  {names[p]}: {'both' if a else 'neither'}" for p, (a, b) in hits.items() if a == b]
    if wrong:
        raise ValueError(
            "each parameter must match exactly one of config.train.trained and "
            "config.train.frozen:\n" + "\n".join(wrong)
        )
    parts = ({p: v for p, v in flat.items() if hits[p][k]} for k in (0, 1))
    first, second = (nnx.traversals.unflatten_mapping(part) for part in parts)
    return first, second


def matches(name: str, patterns: list[str]) -> bool:
    """Whether one of the regular expressions matches from the start of the name."""
    return any(re.match(pattern, name) for pattern in patterns)


def merge(first: Tree, second: Tree) -> Tree:
    """The inverse of `split_trained`."""
    flat = nnx.traversals.flatten_mapping(first) | nnx.traversals.flatten_mapping(second)
    return nnx.traversals.unflatten_mapping(flat)


def learning_rate(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Linear warm-up, then a cosine down to `final_rate` times the peak."""
    warmup = min(config.warmup_steps, max(total_steps // 2, 1))
    return optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        warmup,
        max(total_steps, warmup + 1),
        end_value=config.learning_rate * config.final_rate,
    )


def optimizer(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Clipping by the global norm (0 = off), then AdamW; reads the `train` section."""
    rate = learning_rate(config, total_steps)
    adamw = optax.adamw(rate, b2=config.adam_b2, weight_decay=config.weight_decay)
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, adamw)


def init(params: Tree, config: ConfigDict, total_steps: int) -> TrainState:
    """A state at step 0 from the pipeline's parameters; reads the `train` section."""
    trained, frozen = split_trained(params, list(config.trained), list(config.frozen))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trained=trained,
        frozen=frozen,
        ema=jax.tree.map(jnp.copy, trained),
        opt_state=optimizer(config, total_steps).init(trained),
    )


def create(make_params, config: ConfigDict, total_steps: int, mesh: jax.sharding.Mesh):
    """Initialises a state inside jit, every array already in its shards.

    Args:
      make_params: function without arguments that returns the pipeline's parameters.
      config: the `train` section.
      total_steps: of the run.
      mesh: to place on.

    Returns:
      (state, its shardings).
    """

    def make() -> TrainState:
        return init(make_params(), config, total_steps)

    shardings = rules.shardings(jax.eval_shape(make), mesh)
    return jax.jit(make, out_shardings=shardings)(), shardings


def start(params: Tree, config: ConfigDict, total_steps: int, mesh: jax.sharding.Mesh):
    """As `create`, from parameters that exist and are placed; their memory is used again."""

    def make(params: Tree) -> TrainState:
        return init(params, config, total_steps)

    shardings = rules.shardings(jax.eval_shape(make, params), mesh)
    return jax.jit(make, out_shardings=shardings, donate_argnums=0)(params), shardings
