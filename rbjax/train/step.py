"""Loss and update of a training step, a function of (state, batch, key of the run)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import optax
from clu.metrics import Average, Collection, LastValue
from flax import nnx
from ml_collections import ConfigDict

from rbjax.diffusion import loss as losses
from rbjax.diffusion import schedule as schedule_lib
from rbjax.diffusion.schedule import Schedule, add_noise
from rbjax.models.batch import Batch
from rbjax.models.params import Tree, merge, nnx_state
from rbjax.models.pipeline import Pipeline
from rbjax.parallel import rules
from rbjax.parallel.activations import split_batch
from rbjax.train import state as states
from rbjax.train import teachers
from rbjax.train.bad_updates import BadUpdates, FiniteAverage
from rbjax.train.state import TrainState

TrainMetrics = Collection.create(  # what is written at log steps, averaged since the last one
    loss=FiniteAverage.from_output("loss"),
    grad_norm=FiniteAverage.from_output("grad_norm"),
    learning_rate=LastValue.from_output("learning_rate"),
    references=Average.from_output("references"),  # visible ones of an example
    bad_updates=BadUpdates,  # not averaged
)

Update = Callable[..., tuple[TrainState, Collection]]  # see `make_update`
T = TypeVar("T")


def example_losses(
    pipeline: Pipeline,
    batch: Batch,
    key: jax.Array,
    *,
    schedule: Schedule,
    weighting: str,
    teacher: Pipeline | None = None,
) -> jax.Array:
    """Returns the loss of every example of a batch at random times, float32 [B].

    Args:
        pipeline: of which parts train.
        batch: of training examples.
        key: of this step.
        schedule: of the noise.
        weighting: see diffusion/loss.py.
        teacher: of which the target is a prediction, see `teachers.predict`; None: the image is.
    """
    time_key, noise_key, sample_key = jax.random.split(key, 3)
    encoded = pipeline.encode(batch, sample_key)
    latents = encoded.latents
    noise = split_batch(jax.random.normal(noise_key, latents.shape))
    timesteps = jax.random.randint(
        time_key, latents.shape[:1], 0, schedule.num_train_timesteps, jnp.int32
    )
    noisy = add_noise(schedule, latents, noise=noise, timesteps=timesteps)
    output = pipeline.predict(encoded, noisy, timesteps)
    if teacher is None:
        target = schedule_lib.target(schedule, latents, noise=noise, timesteps=timesteps)
    else:
        target = teachers.predict(teacher, batch, noisy, timesteps)
    return losses.diffusion_loss(
        schedule,
        output,
        target=target,
        timesteps=timesteps,
        weighting=weighting,
        shown=None if batch.shown is None else jnp.asarray(batch.shown),
    )


def make_update(
    graphdef: nnx.GraphDef,
    *,
    schedule: Schedule,
    config: ConfigDict,
    total_steps: int,
    key: jax.Array,
) -> Update:
    """Returns update(state, metrics, batch, teacher=None) -> (state, metrics), ready to be jitted.

    `teacher` holds what `teachers.load` returns, where the configuration wants one.

    An update is not applied where loss, gradient or updated parameters are not finite. With
    `accumulate` above 1 the batch goes through the model in so many parts, one after the other, and
    their gradients are averaged.

    Args:
        graphdef: of the pipeline.
        schedule: of the noise.
        config: the experiment's `train` section.
        total_steps: of the run.
        key: of the run; the step's number is folded into it.
    """
    fsdp = jax.sharding.get_abstract_mesh().shape.get("fsdp", 1) > 1
    tx = states.optimizer(config, total_steps)
    rate = states.learning_rate(config, total_steps)

    def update(
        state: TrainState, metrics: Collection, batch: Batch, teacher: Tree | None = None
    ) -> tuple[TrainState, Collection]:
        def loss_of(trained: Tree, part: Batch, part_key: jax.Array) -> jax.Array:
            params = rules.gather(merge(trained, state.frozen))
            found = example_losses(
                nnx.merge(graphdef, nnx_state(params)),
                part,
                part_key,
                schedule=schedule,
                weighting=config.weighting,
                teacher=teachers.of(graphdef, params, teacher),
            )
            return found.mean()

        def grad_of(part: Batch, part_key: jax.Array) -> tuple[jax.Array, Tree]:
            kept = jax.checkpoint_policies.save_anything_except_these_names(rules.GATHERED)
            loss = jax.checkpoint(loss_of, policy=kept) if fsdp else loss_of
            loss, grads = jax.value_and_grad(loss)(state.trained, part, part_key)
            return loss, rules.split(grads)

        step_key = jax.random.fold_in(key, state.step)
        loss, grads = accumulate(grad_of, batch, step_key, count=config.accumulate)
        grad_norm = optax.tree.norm(grads)
        applied = apply_gradients(tx, state, grads, ema_decay=config.ema_decay)
        finite = jnp.isfinite(loss + grad_norm + optax.tree.norm(applied.trained))
        select = functools.partial(jnp.where, finite)
        new = count_step(jax.tree.map(select, applied, state), state.step + 1)
        output = TrainMetrics.single_from_model_output(
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=rate(state.step),
            references=batch.reference_mask.sum(1),
            finite=finite,
        )
        return new, metrics.merge(output)

    return update


def accumulate(
    grad_of: Callable[[Any, jax.Array], T], batch: Any, key: jax.Array, *, count: int
) -> T:
    """Returns the mean of `grad_of(part, key)` over `count` parts of a batch, one by one.

    Part i holds the examples i, i + count, ...: each device's share of the batch stays on it.

    Args:
        grad_of: returns a tree of arrays, e.g. loss and gradients.
        batch: tree of arrays [B, ...], B a multiple of count.
        key: of this step; part i reads `fold_in(key, i)`, a single part `key` itself.
        count: of parts.
    """
    if count == 1:
        return grad_of(batch, key)
    parts = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
    parts = split_batch(parts, axis=1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(grad_of, batch, key))

    def add(total: T, part_and_key: tuple[Any, jax.Array]) -> tuple[T, None]:
        return jax.tree.map(jnp.add, total, grad_of(*part_and_key)), None

    total, _ = jax.lax.scan(add, zero, (parts, keys))
    return jax.tree.map(lambda x: x / count, total)


def count_step(state: TrainState, step: jax.Array) -> TrainState:
    """Sets the number of updates, by which the learning rate goes on where one is not applied."""

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    opt_state = jax.tree.map(
        lambda node: node._replace(count=step) if is_schedule(node) else node,
        state.opt_state,
        is_leaf=is_schedule,
    )
    return dataclasses.replace(state, step=step, opt_state=opt_state)


def apply_gradients(
    tx: optax.GradientTransformation, state: TrainState, grads: Tree, *, ema_decay: float
) -> TrainState:
    """Applies gradients; the average's decay grows to `ema_decay` over the first steps."""
    updates, opt_state = tx.update(grads, state.opt_state, state.trained)
    trained = cast(Tree, optax.apply_updates(state.trained, updates))
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.ema, trained)
    return dataclasses.replace(state, trained=trained, ema=ema, opt_state=opt_state)
