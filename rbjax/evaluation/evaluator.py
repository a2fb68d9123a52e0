"""Samples and scores of a run, while it trains and at its end."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from clu import metric_writers
from ml_collections import ConfigDict

from rbjax.evaluation import baselines, report, scoring, suite
from rbjax.evaluation import results as results_lib
from rbjax.evaluation.generator import CaseGenerator
from rbjax.evaluation.scoring import VQAModel
from rbjax.evaluation.suite import Suite, Vocabulary
from rbjax.experiment import workdir as workdir_lib
from rbjax.experiment.setup import Experiment
from rbjax.models.params import Tree
from rbjax.vqa.model import ACCURACY, PACKAGED, VQA

PERIODIC_SYSTEMS = ("trained", "references_blanked")
UNSCORED_SYSTEMS = ("trained", "references_blanked", "real_images")  # shown in the report
PERIODIC_RESAMPLES = 200  # of the bootstrap


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Samples and scores of a run; its methods take the parameters to evaluate.

    Attributes:
        exp: the experiment.
        workdir: where results go.
        generator: of the evaluation's split.
        vqa: the model that is asked; None where the data set has no questions.
    """

    exp: Experiment
    workdir: pathlib.Path
    generator: CaseGenerator
    vqa: VQAModel | None

    @classmethod
    def create(cls, exp: Experiment, workdir: pathlib.Path) -> "Evaluator":
        """Opens the evaluation's split and the VQA model.

        Raises:
            ValueError: the images are too small for the VQA model.
        """
        config = exp.config.eval
        split = exp.open(config.split)
        generator = CaseGenerator(exp, exp.examples(split), config.batch_size)
        return cls(exp, workdir, generator, load_vqa(exp.config, split.vocabulary))

    def sample(self, step: int, params: Tree, writer: metric_writers.MetricWriter) -> None:
        """Writes a grid references | generated | target to TensorBoard and samples/."""
        cases = self._suite(self.exp.config.sample_images, 1).cases
        grid = self.generator.grid(cases, self.generator.generate(params, cases))
        path = self.workdir / "samples" / f"{step:07d}.png"
        path.parent.mkdir(exist_ok=True)
        grid.save(path)
        writer.write_images(step, {"samples": np.asarray(grid)[None]})

    def periodic(self, step: int, params: Tree, writer: metric_writers.MetricWriter) -> None:
        """Scores a few characters, where there is something to ask."""
        if self.vqa is None:
            return
        config = self.exp.config.eval
        cases = self._suite(config.periodic_characters, config.prompts)
        images = self._collect(params, cases, PERIODIC_SYSTEMS)
        results = self._score(images, cases, resamples=PERIODIC_RESAMPLES)
        scalars = {
            f"eval/{system}/{column}": value["mean"]
            for system, columns in results["rows"].items()
            for column, value in columns.items()
            if value is not None
        }
        writer.write_scalars(step, scalars)
        workdir_lib.write_text(
            self.workdir / workdir_lib.PERIODIC_RESULTS, json.dumps({"step": step, **results})
        )
        print(f"Evaluation at step {step}:\n{results_lib.table(results)}", flush=True)

    def final(self, step: int, params: Tree, losses: Sequence[tuple[int, float]]) -> None:
        """Scores all systems; writes results.json and the report.

        Args:
            step: that is evaluated.
            params: of the pipeline.
            losses: (step, loss) pairs of the training.
        """
        config = self.exp.config
        cases = self._suite(config.eval.characters, config.eval.prompts)
        images = self._collect(params, cases, self._final_systems(cases))
        results = {"step": step, **self._score(images, cases)}
        page = report.write(
            self.workdir / "report",
            results,
            images,
            read_images=self.generator.read_images,
            losses=losses,
            config=json.loads(config.to_json()),
        )
        workdir_lib.write_text(self.workdir / "results.json", json.dumps(results, indent=1))
        if self.vqa is not None:
            print(results_lib.table(results))
        print(f"Results: {self.workdir / 'results.json'}; report: {page}")

    def _suite(self, characters: int, prompts: int) -> Suite:
        """Builds the cases of so many characters."""
        split, data = self.generator.examples.split, self.exp.config.data
        composition = bool(len(split.clusters_with_box.order) and data.tasks.get("composition", 0))
        return suite.build(
            split.clusters_with_box if composition else split.clusters,
            split.tags,
            split.vocabulary,
            characters=characters,
            per_character=prompts,
            faces=data.faces,
            clothes=data.clothes,
            seed=self.exp.config.seed,
            composition=composition,
            clothed=split.clusters_with_clothes.rank >= 0,
        )

    def _final_systems(self, cases: Suite) -> list[str]:
        """Returns the systems at the end; one character only has no other's references."""
        systems = UNSCORED_SYSTEMS if self.vqa is None else baselines.SYSTEMS
        several = len({case.character for case in cases.cases}) > 1
        return [name for name in systems if several or name != "other_references"]

    def _collect(
        self, params: Tree, cases: Suite, systems: Sequence[str]
    ) -> dict[str, baselines.SystemImages]:
        generate = functools.partial(self.generator.generate, params)
        return baselines.collect(
            generate, cases, read_images=self.generator.read_images, systems=systems
        )

    def _score(
        self, images: dict[str, baselines.SystemImages], cases: Suite, resamples: int = 2000
    ) -> dict:
        return scoring.score(
            images, cases, self.vqa, read_images=self.generator.read_images, resamples=resamples
        )


def load_vqa(config: ConfigDict, vocabulary: Vocabulary) -> VQAModel | None:
    """Loads the model that is asked about images; None where there is nothing to ask.

    Args:
        config: of the experiment.
        vocabulary: of the data set.

    Raises:
        FileNotFoundError, ValueError: as `VQA.load`; the images are too small for the model.
    """
    if not vocabulary["questions"]:
        print(
            f"{config.data.dataset} has no questions to ask: images are made and shown, not "
            "scored.",
            flush=True,
        )
        return None
    vqa = VQA.load(config.eval.vqa or PACKAGED)
    if vqa.asked_at(config.data.size) is None:  # raises before anything trains
        print(
            f"{config.eval.vqa} has no {ACCURACY}: every question of {config.data.dataset} is "
            "asked, although nothing is known of how reliable the answers are.",
            flush=True,
        )
    return vqa
