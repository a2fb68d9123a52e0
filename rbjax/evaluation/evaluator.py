"""Samples and scores of a run, while it trains and at its end."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from clu import metric_writers

from rbjax.evaluation import (
    baselines,
    embedders,
    other_measures,
    other_systems,
    report,
    saved_images,
    scoring,
    suite,
    variants,
)
from rbjax.evaluation import judging as judging_lib
from rbjax.evaluation import results as results_lib
from rbjax.evaluation.asking import VQAModel
from rbjax.evaluation.baselines import RealData, SystemImages
from rbjax.evaluation.generator import CaseGenerator
from rbjax.evaluation.judging import Judging
from rbjax.evaluation.no_learning import TrainingImages
from rbjax.evaluation.suite import Suite
from rbjax.experiment import workdir as workdir_lib
from rbjax.experiment.setup import Experiment
from rbjax.models.params import Tree
from rbjax.parallel import distributed
from rbjax.storage import StoredPath

PERIODIC_SYSTEMS = ("trained", "references_blanked")
OUT_OF_DOMAIN_SYSTEMS = ("trained", "references_blanked", "copy_reference", "real_images")
UNSCORED_SYSTEMS = (*OUT_OF_DOMAIN_SYSTEMS, "other_references")  # where nothing can be asked


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Samples and scores of a run; its methods take the parameters to evaluate.

    Attributes:
        exp: the experiment.
        workdir: where results go.
        generator: of the evaluation's split.
        judging: who is asked, and what.
        others: name of another system to the folder of its images, with a manifest.
        has_model: whether a model is evaluated, so that prompts are cut to what it reads.
    """

    exp: Experiment
    workdir: StoredPath
    generator: CaseGenerator
    judging: Judging
    others: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    has_model: bool = True

    @property
    def vqa(self) -> VQAModel | None:
        """The model that is asked; None where it may be asked nothing."""
        return self.judging.vqa

    @classmethod
    def create(cls, exp: Experiment, workdir: StoredPath) -> "Evaluator":
        """Opens the evaluation's split and the VQA model.

        Raises:
            ValueError, FileNotFoundError: the VQA model or one that compares does not fit.
        """
        config = exp.config.eval
        split = exp.open(config.split)
        generator = CaseGenerator(exp, exp.examples(split), config.batch_size)
        judging = judging_lib.create(
            config.vqa,
            split,
            exp.open,
            names=exp.builder.info.splits,
            size=exp.config.data.size,
            embedders=embedders.load(config.clip, config.dino, config.face),
        )
        return cls(exp, workdir, generator, judging)

    def sample(self, step: int, params: Tree, writer: metric_writers.MetricWriter) -> None:
        """Writes a grid references | generated | target to TensorBoard and samples/."""
        cases = self._suite(self.exp.config.sample_images, 1).cases
        images = self.generator.generate(params, cases)
        if not distributed.is_primary():
            return
        grid = self.generator.grid(cases, images)
        saved_images.write(grid, self.workdir / "samples" / f"{step:07d}.png")
        writer.write_images(step, {"samples": np.asarray(grid)[None]})

    def periodic(self, step: int, params: Tree, writer: metric_writers.MetricWriter) -> None:
        """Scores a few characters, where there is something to ask."""
        if self.vqa is None:
            return
        results = self._development.score_some(
            params, self.exp.config.eval.periodic_characters, PERIODIC_SYSTEMS
        )
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

    def final(
        self, step: int, params: Tree | None, losses: Sequence[tuple[int, float]] = ()
    ) -> None:
        """Scores all systems; writes results.json and the report.

        Args:
            step: that is evaluated.
            params: of the pipeline; None = there is no model.
            losses: (step, loss) pairs of the training.
        """
        config, cases = self.exp.config, self.suite()
        others = self._read_others(cases)  # raises before anything is generated
        systems = self._final_systems(cases, has_model=params is not None)
        images = self._collect(params, cases, systems)
        if params is not None and self.vqa is not None and config.eval.variant_characters:
            made, tags = self._variants(params, cases, images["trained"])
            images, cases = images | made, dataclasses.replace(cases, tags={**tags, **cases.tags})
        images |= others
        results: dict[str, Any] = {
            "step": step,
            "dataset": self.exp.builder.info.full_name,
            "suite": config.eval.split,
            **self._score(images, cases),
            **{"judge": self.judging.record, "questions": self.judging.coverage},
        }
        results |= other_measures.of_run(
            self.exp,
            self.generator,
            self.judging,
            params=params,
            images=images,
            cases=cases,
            records=results["scored"],
        )
        results["out_of_domain"] = None if params is None else self._out_of_domain(params)
        if not distributed.is_primary():
            return
        page = report.write(
            self.workdir / "report",
            results,
            images,
            read_images=self.generator.read_images,
            losses=losses,
            config=json.loads(config.to_json()),
        )
        workdir_lib.write_text(self.workdir / "results.json", results_lib.dumps(results))
        if self.vqa is not None:
            print(results_lib.table(results, [*baselines.COMPARED, *others]))
            if results["out_of_domain"]:
                print(f"Out of domain:\n{results_lib.table(results['out_of_domain'])}")
        other_measures.show(results)
        print(f"Results: {self.workdir / 'results.json'}; report: {page}")

    def _variants(
        self, params: Tree, cases: Suite, trained: SystemImages
    ) -> tuple[dict[str, SystemImages], Mapping[int, tuple[str, ...]]]:
        """Returns the rows with changed references, and the tags of those that are new."""
        config, split = self.exp.config.eval, self.generator.examples.split
        more = self._suite(config.variant_characters, config.prompts, more=variants.CANDIDATES)
        base = variants.first(cases.cases, config.variant_characters)
        names = variants.possible(base, self.generator.read_record)
        made = variants.collect(
            functools.partial(self.generator.generate, params),
            trained,
            characters=config.variant_characters,
            more=variants.with_more(base, more, split.clusters, split.vocabulary),
            names=names,
        )
        return made, more.tags

    def suite(self) -> Suite:
        """Returns the cases of the final evaluation; says how many of their prompts are cut."""
        config = self.exp.config.eval
        made = self._suite(
            config.characters,
            config.prompts,
            repeats=config.repeats,
            open_characters=config.open_characters,
        )
        if made.cut:
            print(f"{made.cut} of {len(made.cases)} prompts are cut to what the model reads.")
        return made

    def _read_others(self, cases: Suite) -> dict[str, SystemImages]:
        """Returns the images of other systems; raises as `other_systems.read_system`."""
        config = self.exp.config
        return {
            name: other_systems.read_system(
                folder,
                cases,
                config.eval.split,
                size=config.data.size,
                read_record=self.generator.read_record,
            )
            for name, folder in self.others.items()
        }

    @functools.cached_property
    def _development(self) -> "Evaluator":
        """The evaluator of the characters by which choices are made."""
        name = self.exp.config.eval.development_split
        return self._of_split(name) if name else self

    def _of_split(self, name: str) -> "Evaluator":
        examples = self.exp.examples(self.exp.open(name))
        return dataclasses.replace(self, generator=self.generator.of(examples), others={})

    def _out_of_domain(self, params: Tree) -> dict[str, Any] | None:
        """Scores characters with values and combinations that training never saw, if there are."""
        config, splits = self.exp.config.eval, self.exp.builder.info.splits
        name = config.out_of_domain_split
        if not name or self.vqa is None:
            return None
        if name not in splits:
            print(f"{self.exp.builder.name} has no split {name!r}: nothing is out of domain.")
            return None
        other = self._of_split(name)
        return {"suite": name, **other.score_some(params, config.characters, OUT_OF_DOMAIN_SYSTEMS)}

    def score_some(self, params: Tree, characters: int, systems: Sequence[str]) -> dict[str, Any]:
        """Scores some systems on so many characters, without repeats."""
        cases = self._suite(characters, self.exp.config.eval.prompts)
        images = self._collect(params, cases, systems)
        return self._score(images, cases)

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
        composition = bool(len(split.clusters_with_box.order) and data.tasks.get("composition", 0))
        made = suite.build(
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
        made = dataclasses.replace(made, vocabulary=self.judging.vocabulary)
        return suite.fitted(made, self.generator.examples.fitting) if self.has_model else made

    def _final_systems(self, cases: Suite, *, has_model: bool) -> list[str]:
        """Returns the systems at the end; one character only has no other's references."""
        systems = UNSCORED_SYSTEMS if self.vqa is None else baselines.SYSTEMS
        systems = [name for name in systems if has_model or name not in baselines.GENERATED]
        several = len({case.character for case in cases.cases}) > 1
        return [name for name in systems if several or name != "other_references"]

    def _collect(
        self, params: Tree | None, cases: Suite, systems: Sequence[str]
    ) -> dict[str, SystemImages]:
        generate = functools.partial(self.generator.generate, params or {})
        return baselines.collect(generate, cases, self._real_data(systems), systems)

    def _real_data(self, systems: Sequence[str]) -> RealData:
        training = None
        if "nearest_training" in systems:
            examples = self.exp.examples(self.exp.open("train"))
            read = CaseGenerator(self.exp, examples, self.generator.batch_size).read_images
            training = TrainingImages(examples.split.tags, read)
        return RealData(self.generator.read_images, self.generator.read_record, training)

    def _score(self, images: dict[str, SystemImages], cases: Suite) -> dict[str, Any]:
        return scoring.score(images, cases, self.vqa, read_images=self.generator.read_images)
