"""The training loop: the order of events; `events` has what is due every N steps."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from clu import metric_writers
from clu.metric_writers import MetricWriter
from clu.metrics import Collection
from clu.periodic_actions import PeriodicCallback, ReportProgress
from ml_collections import ConfigDict

from rbjax.data import loader
from rbjax.data.dataset import Split
from rbjax.data.loader import Batches
from rbjax.evaluation.evaluator import Evaluator
from rbjax.experiment import setup as setup_lib
from rbjax.experiment import workdir as workdir_lib
from rbjax.experiment.setup import Experiment
from rbjax.models.params import Tree
from rbjax.parallel import distributed
from rbjax.parallel import mesh as meshes
from rbjax.storage import StoredPath
from rbjax.train import (
    bad_updates,
    checkpoints,
    event_files,
    events,
    overview,
    precompute_latents,
    teachers,
    termination,
)
from rbjax.train import state as states
from rbjax.train.state import TrainState
from rbjax.train.step import TrainMetrics, make_update
from rbjax.train.termination import Termination


def train(config: ConfigDict, workdir: StoredPath) -> None:
    """Trains, evaluates and reports; goes on where the working directory's last run stopped.

    Args:
        config: see configs/.
        workdir: receives checkpoints/, samples/, report/, results.json and TensorBoard events.

    Raises:
        ValueError, OSError: for settings that cannot work, before anything is computed.
    """
    resolved = setup_lib.resolve(config)
    with contextlib.ExitStack() as stack:
        with distributed.primary_first():
            workdir_lib.check_workdir(resolved.config, workdir)
            if workdir_lib.is_finished(resolved.config, workdir):
                return
            workdir_lib.check_start(resolved.config, workdir)
            stack.enter_context(workdir_lib.lock(workdir))
            stop = stack.enter_context(termination.handled())
            exp = setup_lib.setup(resolved, workdir_lib.read_tokenizer(workdir))
            workdir_lib.check_pretrained(exp.pretrained, workdir)
            planned = workdir_lib.read_total_steps(workdir)
            workdir_lib.write_config(exp.config, workdir)
            tokenizer = exp.tokenizer.to_str(pretty=True)
            workdir_lib.write_text(workdir / workdir_lib.TOKENIZER, tokenizer)
        stack.enter_context(jax.set_mesh(exp.mesh))
        distributed.connect(exp.mesh)
        _run(exp, workdir, planned, stop)


def _run(exp: Experiment, workdir: StoredPath, planned: int | None, stop: Termination) -> None:
    abstract = states.abstract_state(exp)
    overview.print_parameters(abstract)
    with distributed.primary_first():  # it makes the caches
        split = exp.open_training()
        exp.examples(split)  # keeps decoded images, where the configuration says so
    data = _batches(exp, split, abstract)  # latents that are missing are encoded on all devices
    state, metrics = _start(exp, workdir, abstract=abstract, data=data)
    start, total = int(state.step), exp.config.total_steps
    if start:
        print(f"Resuming at step {start}.", flush=True)
        overview.print_learning_rate(exp.config, start, planned)
    with distributed.primary_first():
        evaluator = Evaluator.create(exp, workdir) if exp.config.eval.characters else None
    writer = event_files.make_writer(workdir)
    history = workdir_lib.read_loss_history(workdir, start)
    progress, log = _reports(exp.config, writer, history=history, workdir=workdir)

    def save(step: int, state: TrainState) -> None:
        writer.flush()  # a run that resumes here has the log up to here
        with stop.deferred():
            checkpoints.save(workdir, step, state=state, data=data, metrics=metrics)

    due = events.due(
        exp.config, progress, writer, workdir=workdir, checkpoint=save, evaluator=evaluator
    )
    requests = events.asked_for(save, evaluator, writer)
    update, sharding = finishing(jit_update(exp, abstract)), meshes.batch_sharding(exp.mesh)
    rows = meshes.local_rows(sharding, exp.config.batch_size)
    teacher = teachers.load(exp) if start < total else None
    check = bad_updates.check(exp.config, split, workdir, rows)
    if start < total:
        checkpoints.check_space(workdir, abstract)
        print("Training starts; the first step takes longer: it is compiled.", flush=True)
    try:
        with metric_writers.ensure_flushes(writer):
            if start:
                events.make(due[1:], start, state)  # after its checkpoint: it may have been killed
            for step in range(start + 1, total + 1):
                with stop.deferred():  # state, data and metrics stay at the same step
                    examples = next(data)
                    batch = loader.place(examples, sharding)
                    # Compiling reads constants back from a GPU: only the other way is refused.
                    with jax.transfer_guard_host_to_device("disallow"):
                        state, metrics = update(state, metrics, batch, teacher)
                    progress(step)
                    if log(step, metrics=metrics):
                        metrics = bad_updates.begin(metrics, _zero_metrics(exp))
                    check(step, metrics=metrics, batch=examples)
                events.make(due, step, state)
                events.answer(requests, workdir, step=step, state=state)
                stop.check(step)
        if evaluator:
            _evaluate_at_end(evaluator, state, history)
    except termination.Terminated:
        save(int(state.step), state)
        print(f"Step {int(state.step)} is saved.", flush=True)
        raise


def _start(
    exp: Experiment, workdir: StoredPath, *, abstract: TrainState, data: Batches
) -> tuple[TrainState, Collection]:
    """Returns (state, metrics) of the newest checkpoint, also setting `data`, or of step 0."""

    def make_frozen() -> Tree:
        return states.create_state(exp)[0].frozen

    state = checkpoints.restore(
        workdir,
        abstract=abstract,
        data=data,
        make_frozen=make_frozen,
        is_start_known=workdir_lib.is_start_known(exp.pretrained, workdir),
    )
    state = state or states.create_state(exp)[0]
    return state, checkpoints.read_metrics(workdir, int(state.step), _zero_metrics(exp))


def _evaluate_at_end(
    evaluator: Evaluator, state: TrainState, history: list[tuple[int, float]]
) -> None:
    try:
        evaluator.final(int(state.step), state.averaged, history)
    except Exception:
        logging.error(
            "the evaluation failed. The training is complete and saved (step %d): the same command "
            "evaluates without training again.",
            int(state.step),
        )
        raise


def _reports(
    config: ConfigDict,
    writer: MetricWriter,
    *,
    history: list[tuple[int, float]],
    workdir: StoredPath,
) -> tuple[ReportProgress, PeriodicCallback]:
    """Returns what writes the speed, and what writes the metrics (also at the last step)."""
    every, total = config.log_every, config.total_steps
    progress = ReportProgress(num_train_steps=total, writer=writer, every_steps=every)
    log = functools.partial(_log, writer=writer, history=history, workdir=workdir)
    return progress, PeriodicCallback(every_steps=every, on_steps=[total], callback_fn=log)


def _batches(exp: Experiment, split: Split, state: TrainState) -> Batches:
    """Returns training's batches, from stored latents and text states where some fit."""
    config = exp.config
    examples = exp.examples(
        split, precompute_latents.find(exp, split, state.trained), training=True
    )
    overview.print_cut_prompts(examples)
    return loader.iterator(
        examples,
        batch_size=config.batch_size,
        seed=config.seed,
        threads=config.data.threads,
        rows=meshes.local_rows(meshes.batch_sharding(exp.mesh), config.batch_size),
    )


def jit_update(exp: Experiment, abstract: TrainState) -> jax.stages.Wrapped:
    """Returns the update, which takes the memory of its state; compiled when it is first called."""
    config, key = exp.config, jax.random.key(exp.config.seed)
    update = make_update(
        exp.graphdef,
        schedule=exp.schedule,
        config=config.train,
        total_steps=config.total_steps,
        key=key,
    )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    out_shardings = (shardings, meshes.replicated(exp.mesh))
    return jax.jit(update, donate_argnums=(0, 1), out_shardings=out_shardings)


def finishing(update: Callable[..., Any]) -> Callable[..., Any]:
    """Returns an update that on CPUs has ended when it returns; elsewhere, `update`.

    On CPUs JAX queues dozens of calls: the rate would be that of queueing, and what follows a
    signal would wait for all of them.
    """
    if jax.default_backend() != "cpu":
        return update
    return lambda *operands: jax.block_until_ready(update(*operands))


def _zero_metrics(exp: Experiment) -> Collection:
    return jax.device_put(TrainMetrics.empty(), meshes.replicated(exp.mesh))


def _log(
    step: int,
    t: float,
    *,
    metrics: Collection,
    writer: MetricWriter,
    history: list[tuple[int, float]],
    workdir: StoredPath,
) -> None:
    """Writes the metrics: here alone, and in `bad_updates.check`, numbers leave the device."""
    values = {name: float(value) for name, value in metrics.compute().items()}
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_in_use" in stats:
        values["device_memory_gib"] = stats["bytes_in_use"] / 2**30
    if count := int(values["bad_updates"]):
        logging.warning(
            "step %d: %d updates since the last line were not applied: something was not finite",
            step,
            count,
        )
    writer.write_scalars(step, values)
    history.append((step, values["loss"]))
    workdir_lib.write_loss_history(workdir, history)
