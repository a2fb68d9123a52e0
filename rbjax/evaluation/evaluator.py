"""Samples and scores of a run, while it trains and at its end."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from clu import metric_writers
from ml_collections import ConfigDict

from rbjax.evaluation import baselines, report, scoring, suite, variants
from rbjax.evaluation import results as results_lib
from rbjax.evaluation.asking import VQAModel
from rbjax.evaluation.baselines import RealData, SystemImages
from rbjax.evaluation.case_prompts import Vocabulary
from rbjax.evaluation.generator import CaseGenerator
from rbjax.evaluation.no_learning import TrainingImages
from rbjax.evaluation.suite import Suite
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
        cases = self._suite(
            config.eval.characters,
            config.eval.prompts,
            repeats=config.eval.repeats,
            open_characters=config.eval.open_characters,
        )
        images = self._collect(params, cases, self._final_systems(cases))
        if self.vqa is not None and config.eval.variant_characters:
            made, tags = self._variants(params, cases, images["trained"])
            images, cases = images | made, dataclasses.replace(cases, tags={**tags, **cases.tags})
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
            print(results_lib.table(results, baselines.COMPARED))
        print(f"Results: {self.workdir / 'results.json'}; report: {page}")

    @property
    def _is_composed(self) -> bool:
        """Whether references are given for face and clothes, not entire."""
        split, tasks = self.generator.examples.split, self.exp.config.data.tasks
        return bool(len(split.clusters_with_box.order) and tasks.get("composition", 0))

    def _variants(
        self, params: Tree, cases: Suite, trained: SystemImages
    ) -> tuple[dict[str, SystemImages], Mapping[int, tuple[str, ...]]]:
        """Returns the rows with changed references, and the tags of those that are new."""
        config = self.exp.config.eval
        more = self._suite(config.variant_characters, config.prompts, more=1)
        used = variants.first(cases.cases, config.variant_characters)
        references = {position for case in used for position in case.references}
        masked = all(self.generator.read_record(p).get("has_mask", True) for p in references)
        left_out = {name for name in variants.OF_COMPOSITION if not self._is_composed}
        names = [n for n in variants.VARIANTS if n not in left_out and (masked or n != "recolored")]
        made = variants.collect(
            functools.partial(self.generator.generate, params),
            trained,
            characters=config.variant_characters,
            more=more.cases,
            names=names,
        )
        return made, more.tags

    def _suite(
        self,
        characters: int,
        prompts: int,
        *,
        repeats: int = 1,
        open_characters: int = 0,
        more: int = 0,
    ) -> Suite:
        """Builds the cases of so many characters, with `more` references of each concept.

        The other arguments are those of `suite.build`.
        """
        split, data = self.generator.examples.split, self.exp.config.data
        composition = self._is_composed
        return suite.build(
            split.clusters_with_box if composition else split.clusters,
            split.tags,
            split.vocabulary,
            characters=characters,
            per_character=prompts,
            faces=data.faces + more,
            clothes=data.clothes + more,
            repeats=repeats,
            open_characters=open_characters,
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
    ) -> dict[str, SystemImages]:
        generate = functools.partial(self.generator.generate, params)
        return baselines.collect(generate, cases, self._real_data(systems), systems)

    def _real_data(self, systems: Sequence[str]) -> RealData:
        training = None
        if "nearest_training" in systems:
            examples = self.exp.examples(self.exp.open("train"))
            read = CaseGenerator(self.exp, examples, self.generator.batch_size).read_images
            training = TrainingImages(examples.split.tags, read)
        return RealData(self.generator.read_images, self.generator.read_record, training)

    def _score(self, images: dict[str, SystemImages], cases: Suite, resamples: int = 2000) -> dict:
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
