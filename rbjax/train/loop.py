"""The training loop: order of events. Each event is a function of its own below."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import grain
import jax
import numpy as np
from absl import logging
from clu import metric_writers, parameter_overview, periodic_actions
from ml_collections import ConfigDict

from rbjax.data import loader
from rbjax.data.source import Split
from rbjax.evaluation import report, rows, run, suite
from rbjax.evaluation.judge import Silent
from rbjax.evaluation.painter import Painter
from rbjax.evaluation.suite import Suite
from rbjax.metrics.vqa_score import PACKAGED, VQA
from rbjax.parallel import mesh as meshes
from rbjax.train import checkpoints, experiment, latents, state, step, trained
from rbjax.train.experiment import Experiment
from rbjax.train.state import TrainState
from rbjax.train.step import TrainMetrics

PERIODIC_ROWS = ("trained", "references_blanked")
UNSCORED_ROWS = ("trained", "references_blanked", "real_images")  # to look at


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains, evaluates and reports; goes on where the working directory's last run stopped.

    Args:
      config: see configs/.
      workdir: receives checkpoints/, samples/, report/, results.json and TensorBoard events.

    Raises:
      ValueError, OSError: for settings that cannot work, before anything is computed.
    """
    config = experiment.resolve(config)
    experiment.check_workdir(config, workdir)
    if is_finished(config, workdir):
        return
    with experiment.alone(workdir):
        exp = experiment.setup(config)
        experiment.keep_config(config, workdir)
        exp.tokenizer.save(str(workdir / trained.TOKENIZER))
        with jax.set_mesh(exp.mesh):
            _run(exp, workdir)


def is_finished(config: ConfigDict, workdir: pathlib.Path) -> bool:
    """Whether this run is complete; says so, and how to go on."""
    path = workdir / "results.json"
    if not path.exists():
        return False
    done = json.loads(path.read_text())["step"]
    if done < config.total_steps:
        return False
    print(
        f"This run is finished: {done} steps, see {path} and {workdir / 'report/index.html'}.\n"
        f"To train longer: --config.total_steps={2 * done}. To evaluate again, with other "
        f"--config.eval or --config.sampling: remove {path}. To start anew: another --workdir."
    )
    return True


def _run(exp: Experiment, workdir: pathlib.Path) -> None:
    config = exp.config
    split = exp.open_training()
    current, shardings = experiment.create_state(exp)
    _overview(current)
    data = _batches(exp, split, current)
    manager = checkpoints.manager(workdir, config.checkpoint_every)
    current = checkpoints.restore(manager, current, shardings, data)
    start = int(current.step)
    if start:
        print(f"Resuming at step {start}.", flush=True)
    evaluation = Evaluation.start(exp, workdir)
    writer = metric_writers.create_default_writer(workdir, asynchronous=False)
    progress = periodic_actions.ReportProgress(
        num_train_steps=config.total_steps, writer=writer, every_steps=config.log_every
    )
    update = _compile(exp, shardings)
    running = _zero_metrics(exp)
    sharding = meshes.batch_sharding(exp.mesh)
    history = _history(workdir, start)
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
                    evaluation.sample(number, current, writer)
            if number % config.eval_every == 0 and number < config.total_steps:
                with progress.timed("evaluate"):
                    evaluation.periodic(number, current, writer)
            if number % config.checkpoint_every == 0 or number == config.total_steps:
                with progress.timed("checkpoint"):
                    checkpoints.save(manager, number, current, data, force=True)
    manager.close()
    evaluation.final(int(current.step), current, history)


def _batches(exp: Experiment, split: Split, current: TrainState) -> grain.DatasetIterator:
    """Training's batches, from stored latents and text states where some fit."""
    config = exp.config
    examples = exp.examples(split, latents.find(exp, split, current.trained))
    return loader.iterator(examples, config.batch_size, config.seed, config.data.threads)


def _compile(exp: Experiment, shardings) -> Callable:
    update = step.make_update(
        exp.graphdef,
        exp.schedule,
        exp.config.train,
        exp.config.total_steps,
        jax.random.key(exp.config.seed),
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


def _zero_metrics(exp: Experiment) -> TrainMetrics:
    return jax.device_put(TrainMetrics.empty(), meshes.replicated(exp.mesh))


def _log(writer, number: int, running: TrainMetrics, history: list, workdir) -> None:
    """The one place where numbers leave the device during training."""
    values = {name: float(value) for name, value in running.compute().items()}
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_in_use" in stats:
        values["device_memory_gib"] = stats["bytes_in_use"] / 2**30
    if not np.isfinite([values["loss"], values["grad_norm"]]).all():
        logging.warning("step %d: a gradient was not finite; such updates are not applied", number)
    writer.write_scalars(number, values)
    history.append((number, values["loss"]))
    experiment.write_whole(workdir / "loss.json", json.dumps(history))


def _history(workdir: pathlib.Path, start: int) -> list:
    """(step, loss) pairs up to the step that is resumed."""
    path = workdir / "loss.json"
    pairs = json.loads(path.read_text()) if path.exists() else []
    return [tuple(pair) for pair in pairs if pair[0] <= start]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Samples and scores of a run.

    Attributes:
      exp: the experiment.
      workdir: where results go.
      painter: of the evaluation's split.
      vqa: the judge; a Silent one where the data set has no questions.
    """

    exp: Experiment
    workdir: pathlib.Path
    painter: Painter
    vqa: VQA | Silent

    @classmethod
    def start(cls, exp: Experiment, workdir: pathlib.Path) -> "Evaluation":
        """Opens the evaluation's split and the judge."""
        config = exp.config.eval
        split = exp.open(config.split)
        painter = Painter(exp, exp.examples(split), config.batch_size)
        return cls(exp, workdir, painter, _judge(exp, split))

    @property
    def scores(self) -> bool:
        """Whether there is anything to ask."""
        return not isinstance(self.vqa, Silent)

    def suite(self, characters: int, prompts: int) -> Suite:
        """The cases of so many characters."""
        split, data = self.painter.examples.split, self.exp.config.data
        whole = not len(split.boxed.order) or not data.tasks.get("composition", 0)
        return suite.build(
            split.clusters if whole else split.boxed,
            split.tags,
            split.vocabulary,
            characters,
            prompts,
            data.faces,
            data.clothes,
            self.exp.config.seed,
            whole,
        )

    def _rows(self, cases: Suite) -> tuple[str, ...]:
        """The rows of the final evaluation; one character alone has no other's references."""
        wanted = rows.ROWS if self.scores else UNSCORED_ROWS
        several = len({case.character for case in cases.cases}) > 1
        return tuple(row for row in wanted if several or row != "other_references")

    def load(self, current: TrainState) -> None:
        """Paints with the averaged parameters from now on."""
        self.painter.params = state.merge(current.ema, current.frozen)

    def sample(self, number: int, current: TrainState, writer) -> None:
        """Writes a grid references | generated | target to TensorBoard and samples/."""
        self.load(current)
        cases = self.suite(self.exp.config.sample_images, 1).cases
        generated = self.painter(cases, False, None)
        picture = self.painter.grid(cases, generated)
        path = self.workdir / "samples" / f"{number:07d}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
        writer.write_images(number, {"samples": np.asarray(picture)[None]})

    def periodic(self, number: int, current: TrainState, writer) -> None:
        """Scores a few characters."""
        if not self.scores:
            return
        self.load(current)
        config = self.exp.config.eval
        cases = self.suite(config.periodic_characters, config.prompts)
        results = run.evaluate(
            self.painter, cases, self.painter.images, self.vqa, PERIODIC_ROWS, resamples=200
        )
        scalars = {
            f"eval/{row}/{column}": value["mean"]
            for row, columns in results["rows"].items()
            for column, value in columns.items()
            if value is not None
        }
        writer.write_scalars(number, scalars)
        print(f"Evaluation at step {number}:\n{run.table(results)}", flush=True)

    def final(self, number: int, current: TrainState, history: list) -> None:
        """Scores all rows; writes results.json and the report."""
        self.load(current)
        config = self.exp.config
        cases = self.suite(config.eval.characters, config.eval.prompts)
        painted = rows.collect(self.painter, cases, self.painter.images, self._rows(cases))
        results = run.score(painted, cases, self.painter.images, self.vqa)
        results = {"step": number, **results}
        page = report.write(
            self.workdir / "report",
            results,
            painted,
            cases,
            self.painter.images,
            losses=history,
            config=json.loads(config.to_json()),
        )
        experiment.write_whole(self.workdir / "results.json", json.dumps(results, indent=1))
        if self.scores:
            print(run.table(results))
        print(f"Results: {self.workdir / 'results.json'}; report: {page}")


def _judge(exp: Experiment, split: Split) -> VQA | Silent:
    """Who judges the images of a split; raises ValueError where they are too small for it."""
    if not split.vocabulary["questions"]:
        print(
            f"{exp.config.data.dataset} has no questions to ask: images are made and shown, not "
            "scored.",
            flush=True,
        )
        return Silent()
    vqa = VQA.load(exp.config.eval.vqa or PACKAGED)
    vqa.asked_at(exp.config.data.size)  # raises before anything trains
    return vqa
