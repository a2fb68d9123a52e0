"""The training loop: order of events. Each event is a function of its own below."""

import pathlib
from collections.abc import Callable

import grain
import jax
import numpy as np
from absl import logging
from clu import metric_writers, parameter_overview, periodic_actions
from clu.metrics import Collection
from ml_collections import ConfigDict

from rbjax.data import loader
from rbjax.data.dataset import Split
from rbjax.evaluation.evaluator import Evaluator
from rbjax.experiment import setup as setup_lib
from rbjax.experiment import workdir as workdir_lib
from rbjax.experiment.setup import Experiment
from rbjax.models import params as params_lib
from rbjax.parallel import mesh as meshes
from rbjax.train import checkpoints, precompute_latents, state, step
from rbjax.train.state import TrainState
from rbjax.train.step import TrainMetrics


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains, evaluates and reports; goes on where the working directory's last run stopped.

    Args:
        config: see configs/.
        workdir: receives checkpoints/, samples/, report/, results.json and TensorBoard events.

    Raises:
        ValueError, OSError: for settings that cannot work, before anything is computed.
    """
    resolved = setup_lib.resolve(config)
    workdir_lib.check_workdir(resolved.config, workdir)
    if workdir_lib.is_finished(resolved.config, workdir):
        return
    with workdir_lib.lock(workdir):
        exp = setup_lib.setup(resolved)
        workdir_lib.write_config(exp.config, workdir)
        exp.tokenizer.save(str(workdir / checkpoints.TOKENIZER))
        with jax.set_mesh(exp.mesh):
            _run(exp, workdir)


def _run(exp: Experiment, workdir: pathlib.Path) -> None:
    config = exp.config
    split = exp.open_training()
    current, shardings = state.create_state(exp)
    _overview(current)
    data = _batches(exp, split, current)
    manager = checkpoints.manager(workdir, config.checkpoint_every)
    current = checkpoints.restore(manager, current, shardings, data)
    start = int(current.step)
    if start:
        print(f"Resuming at step {start}.", flush=True)
    evaluator = Evaluator.create(exp, workdir)
    writer = metric_writers.create_default_writer(workdir, asynchronous=False)
    progress = periodic_actions.ReportProgress(
        num_train_steps=config.total_steps, writer=writer, every_steps=config.log_every
    )
    update = _compile(exp, shardings)
    running = _zero_metrics(exp)
    sharding = meshes.batch_sharding(exp.mesh)
    history = workdir_lib.read_loss_history(workdir, start)
    if start < config.total_steps:
        print("Training starts; the first step takes longer: it is compiled.", flush=True)
    with metric_writers.ensure_flushes(writer):
        for number in range(start + 1, config.total_steps + 1):
            batch = loader.place(next(data), sharding)
            with jax.transfer_guard("disallow"):
                current, running = update(current, running, batch)
            progress(number)
            if number % config.log_every == 0 or number == config.total_steps:
                _log(writer, number, running, history, workdir)
                running = _zero_metrics(exp)
            if number % config.sample_every == 0:
                with progress.timed("sample"):
                    evaluator.sample(number, averaged(current), writer)
            if number % config.eval_every == 0 and number < config.total_steps:
                with progress.timed("evaluate"):
                    evaluator.periodic(number, averaged(current), writer)
            if number % config.checkpoint_every == 0 or number == config.total_steps:
                with progress.timed("checkpoint"):
                    checkpoints.save(manager, number, current, data, force=True)
    manager.close()
    evaluator.final(int(current.step), averaged(current), history)


def _batches(exp: Experiment, split: Split, current: TrainState) -> grain.DatasetIterator:
    """Training's batches, from stored latents and text states where some fit."""
    config = exp.config
    examples = exp.examples(split, precompute_latents.find(exp, split, current.trained))
    return loader.iterator(
        examples, batch_size=config.batch_size, seed=config.seed, threads=config.data.threads
    )


def _compile(exp: Experiment, shardings) -> Callable:
    update = step.make_update(
        exp.graphdef,
        schedule=exp.schedule,
        config=exp.config.train,
        total_steps=exp.config.total_steps,
        key=jax.random.key(exp.config.seed),
    )
    return jax.jit(
        update,
        donate_argnums=(0, 1),
        out_shardings=(shardings, meshes.replicated(exp.mesh)),
    )


def _overview(current: TrainState) -> None:
    """Prints every parameter with its shape, and which part it belongs to."""
    for name, params in (("trained", current.trained), ("frozen", current.frozen)):
        if params:
            print(f"Parameters that are {name}:")
            print(parameter_overview.get_parameter_overview(params, include_stats=False))
    counts = [sum(x.size for x in jax.tree.leaves(p)) for p in (current.trained, current.frozen)]
    print(f"{counts[0]:,} parameters train, {counts[1]:,} are frozen.", flush=True)


def _zero_metrics(exp: Experiment) -> Collection:
    return jax.device_put(TrainMetrics.empty(), meshes.replicated(exp.mesh))


def _log(writer, number: int, running: Collection, history: list, workdir) -> None:
    """The one place where numbers leave the device during training."""
    values = {name: float(value) for name, value in running.compute().items()}
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_in_use" in stats:
        values["device_memory_gib"] = stats["bytes_in_use"] / 2**30
    if not np.isfinite([values["loss"], values["grad_norm"]]).all():
        logging.warning("step %d: a gradient was not finite; such updates are not applied", number)
    writer.write_scalars(number, values)
    history.append((number, values["loss"]))
    workdir_lib.write_loss_history(workdir, history)


def averaged(current: TrainState) -> params_lib.Tree:
    """Returns the parameters to evaluate: the averages of what trains, and what is frozen."""
    return params_lib.merge(current.ema, current.frozen)
