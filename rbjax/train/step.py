"""Loss and jitted update. A step is a function of (state, batch, key of the run)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from clu import metrics
from flax import nnx, struct
from ml_collections import ConfigDict

from rbjax.diffusion import loss as losses
from rbjax.diffusion.schedule import Schedule, add_noise
from rbjax.train import state as states
from rbjax.train.state import TrainState


@struct.dataclass
class TrainMetrics(metrics.Collection):
    """What is written at log steps, averaged since the last one."""

    loss: metrics.Average.from_output("loss")
    grad_norm: metrics.Average.from_output("grad_norm")
    learning_rate: metrics.LastValue.from_output("learning_rate")
    references: metrics.Average.from_output("references")  # visible ones of an example


def diffusion_loss(
    pipeline: nnx.Module,
    batch: dict,
    key: jax.Array,
    schedule: Schedule,
    weighting: str,
    shift: float = 1.0,
) -> jax.Array:
    """Mean loss of a batch at random times.

    Args:
      pipeline: see models/pipeline.py.
      batch: see data/loader.py.
      key: of this step.
      schedule: of the noise.
      weighting: see diffusion/loss.py.
      shift: see `draw_timesteps`.
    """
    time_key, noise_key = jax.random.split(key)
    latents = pipeline.encode_images(batch["image"])
    noise = jax.random.normal(noise_key, latents.shape)
    timesteps = draw_timesteps(time_key, len(latents), schedule.num_train_timesteps, shift)
    noisy = add_noise(schedule, latents, noise, timesteps)
    output = pipeline.predict(batch, noisy, timesteps)
    return losses.diffusion_loss(schedule, output, latents, noise, timesteps, weighting).mean()


def draw_timesteps(key: jax.Array, count: int, total: int, shift: float) -> jax.Array:
    """Random times int32 [count] below `total`; shift > 1 draws more of the noisy ones.

    A uniform u becomes shift * u / (1 + (shift - 1) * u) (arXiv 2403.03206, equation 23).
    """
    u = jax.random.uniform(key, (count,))
    shifted = shift * u / (1 + (shift - 1) * u)
    return jnp.minimum(jnp.int32(shifted * total), total - 1)


def make_update(
    graphdef: nnx.GraphDef, schedule: Schedule, config: ConfigDict, total_steps: int, key: jax.Array
) -> Callable[[TrainState, TrainMetrics, dict], tuple[TrainState, TrainMetrics]]:
    """The update, ready to be jitted; reads the `train` section.

    An update whose gradient is not finite is not applied.
    """
    tx = states.optimizer(config, total_steps)
    rate = states.learning_rate(config, total_steps)

    def update(state: TrainState, running: TrainMetrics, batch: dict):
        def loss_of(trained):
            pipeline = nnx.merge(graphdef, nnx_state(states.merge(trained, state.frozen)))
            step_key = jax.random.fold_in(key, state.step)
            return diffusion_loss(
                pipeline, batch, step_key, schedule, config.weighting, config.timestep_shift
            )

        loss, grads = jax.value_and_grad(loss_of)(state.trained)
        grad_norm = optax.global_norm(grads)
        applied = _apply(tx, state, grads, config.ema_decay)
        keep = functools.partial(jnp.where, jnp.isfinite(grad_norm))
        new = jax.tree.map(keep, applied, state).replace(step=state.step + 1)
        output = TrainMetrics.single_from_model_output(
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=rate(state.step),
            references=batch["reference_mask"].sum(1),
        )
        return new, running.merge(output)

    return update


def _apply(tx, state: TrainState, grads: states.Tree, ema_decay: float) -> TrainState:
    updates, opt_state = tx.update(grads, state.opt_state, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.ema, trained)
    return state.replace(trained=trained, ema=ema, opt_state=opt_state)


def nnx_state(params: states.Tree) -> nnx.State:
    """A nested dict of arrays as the state of a module."""
    return nnx.State(jax.tree.map(nnx.Param, params))
