"""The training state: trained and frozen parameters, their averages, the optimiser's moments."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct
from ml_collections import ConfigDict

from rbjax.experiment.setup import Experiment
from rbjax.models.params import Tree, merge, split_trained
from rbjax.models.pipeline import abstract_pipeline, make_pipeline
from rbjax.parallel import rules
from rbjax.train import initial


class TrainState(struct.PyTreeNode):
    """One pytree; checkpoints hold it under the attributes' names.

    Attributes:
        step: int32 [], number of updates.
        trained: parameters that the optimiser changes.
        frozen: the other parameters.
        ema: exponential moving average of `trained`.
        opt_state: of optax, for `trained` only.
    """

    step: jax.Array
    trained: Tree
    frozen: Tree
    ema: Tree
    opt_state: optax.OptState

    @property
    def averaged(self) -> Tree:
        """The parameters to evaluate: the averages of what trains, and what is frozen."""
        return merge(self.ema, self.frozen)


def learning_rate(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Returns linear warm-up, then the way down to `final_rate` times the peak.

    With `decay_steps` the peak is kept until that many steps before the end, and the rate then
    falls in a line: until there it does not depend on `total_steps`, so a training can be made
    longer and equals one that was planned so. Without, it falls as a cosine from the warm-up on.
    The warm-up takes at most half of the steps.
    """
    peak, last = config.learning_rate, config.learning_rate * config.final_rate
    warmup = min(config.warmup_steps, max(total_steps // 2, 1))
    end = max(total_steps, warmup + 1)
    if not config.decay_steps:
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, end, end_value=last)
    decay = min(config.decay_steps, end - warmup)
    parts = [optax.linear_schedule(0.0, peak, warmup), optax.constant_schedule(peak)]
    falling = optax.linear_schedule(peak, last, decay)
    return optax.join_schedules([*parts, falling], [warmup, end - decay])


def optimizer(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Returns clipping by the global norm (0 = off), then AdamW; reads the `train` section."""
    rate = learning_rate(config, total_steps)
    adamw = optax.adamw(rate, b2=config.adam_b2, weight_decay=config.weight_decay)
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, adamw)


def init(params: Tree, config: ConfigDict, total_steps: int) -> TrainState:
    """Returns the state at step 0 of the pipeline's parameters; reads the `train` section."""
    trained, frozen = split_trained(params, list(config.trained), list(config.frozen))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trained=trained,
        frozen=frozen,
        ema=jax.tree.map(jnp.copy, trained),
        opt_state=optimizer(config, total_steps).init(trained),
    )


def create(
    make_params: Callable[..., Tree],
    config: ConfigDict,
    *,
    total_steps: int,
    mesh: jax.sharding.Mesh,
    placed: Tree | None = None,
) -> tuple[TrainState, TrainState]:
    """Initialises a state inside jit, every array already in its shards.

    Args:
        make_params: returns the pipeline's parameters, of `placed` where that is given.
        config: the `train` section.
        total_steps: of the run.
        mesh: to place on.
        placed: arrays on the mesh, whose memory is used again.

    Returns:
        (state, the same tree with a NamedSharding in place of every array).
    """

    def make(*sources: Tree) -> TrainState:
        return init(make_params(*sources), config, total_steps)

    sources = () if placed is None else (placed,)
    shardings = rules.shardings(jax.eval_shape(make, *sources), mesh)
    donated = tuple(range(len(sources)))
    return jax.jit(make, out_shardings=shardings, donate_argnums=donated)(*sources), shardings


def create_state(experiment: Experiment) -> tuple[TrainState, TrainState]:
    """Initialises or reads the state at step 0, straight into its shards; returns as `create`."""
    config, mesh = experiment.config, experiment.mesh
    make = functools.partial(create, config=config.train, total_steps=config.total_steps, mesh=mesh)
    if config.init_from:
        return make(lambda params: params, placed=initial.load_params(experiment))
    if experiment.pretrained:
        return make(lambda params: params, placed=experiment.pretrained.load_params(mesh))

    def make_params() -> Tree:
        pipeline = make_pipeline(config, experiment.tokenizer, nnx.Rngs(config.seed))
        return nnx.to_pure_dict(nnx.state(pipeline, nnx.Param))

    return make(make_params)


def abstract_state(experiment: Experiment) -> TrainState:
    """Returns shapes, dtypes and shardings of the state; nothing is computed."""
    config = experiment.config
    pipeline = abstract_pipeline(config, experiment.tokenizer)
    params = nnx.to_pure_dict(nnx.state(pipeline, nnx.Param))
    make = functools.partial(init, config=config.train, total_steps=config.total_steps)
    abstract = jax.eval_shape(make, params)
    shardings = rules.shardings(abstract, experiment.mesh)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        abstract,
        shardings,
    )
