"""Samples and scores of a run, while it trains and at its end."""

import dataclasses
import json
import pathlib

import numpy as np

from rbjax.data.dataset import Split
from rbjax.evaluation import baselines, report, suite
from rbjax.evaluation import results as results_lib
from rbjax.evaluation.generator import Painter
from rbjax.evaluation.scoring import Silent
from rbjax.evaluation.suite import Suite
from rbjax.experiment import workdir as workdir_lib
from rbjax.experiment.setup import Experiment
from rbjax.models import params as params_lib
from rbjax.vqa.model import PACKAGED, VQA

PERIODIC_ROWS = ("trained", "references_blanked")


UNSCORED_ROWS = ("trained", "references_blanked", "real_images")  # to look at


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
        wanted = baselines.ROWS if self.scores else UNSCORED_ROWS
        several = len({case.character for case in cases.cases}) > 1
        return tuple(row for row in wanted if several or row != "other_references")

    def sample(self, number: int, params: params_lib.Tree, writer) -> None:
        """Writes a grid references | generated | target to TensorBoard and samples/."""
        self.painter.params = params
        cases = self.suite(self.exp.config.sample_images, 1).cases
        generated = self.painter(cases, False, None)
        picture = self.painter.grid(cases, generated)
        path = self.workdir / "samples" / f"{number:07d}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
        writer.write_images(number, {"samples": np.asarray(picture)[None]})

    def periodic(self, number: int, params: params_lib.Tree, writer) -> None:
        """Scores a few characters."""
        if not self.scores:
            return
        self.painter.params = params
        config = self.exp.config.eval
        cases = self.suite(config.periodic_characters, config.prompts)
        results = results_lib.evaluate(
            self.painter, cases, self.painter.images, self.vqa, PERIODIC_ROWS, resamples=200
        )
        scalars = {
            f"eval/{row}/{column}": value["mean"]
            for row, columns in results["rows"].items()
            for column, value in columns.items()
            if value is not None
        }
        writer.write_scalars(number, scalars)
        print(f"Evaluation at step {number}:\n{results_lib.table(results)}", flush=True)

    def final(self, number: int, params: params_lib.Tree, history: list) -> None:
        """Scores all rows; writes results.json and the report."""
        self.painter.params = params
        config = self.exp.config
        cases = self.suite(config.eval.characters, config.eval.prompts)
        painted = baselines.collect(self.painter, cases, self.painter.images, self._rows(cases))
        results = results_lib.score(painted, cases, self.painter.images, self.vqa)
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
        workdir_lib.write_whole(self.workdir / "results.json", json.dumps(results, indent=1))
        if self.scores:
            print(results_lib.table(results))
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
