"""An evaluation apart from a training: of a model, of other systems' images, or of both."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from rbjax import storage
from rbjax.data import dataset as dataset_lib
from rbjax.diffusion.guidance import Sampling
from rbjax.evaluation import (
    embedders,
    judging,
    other_measures,
    other_systems,
    report,
    scoring,
)
from rbjax.evaluation import results as results_lib
from rbjax.evaluation.evaluator import Evaluator
from rbjax.evaluation.judging import Judging
from rbjax.experiment import added_fields
from rbjax.experiment import workdir as workdir_lib
from rbjax.experiment.setup import Experiment
from rbjax.interop.saved_model import Model
from rbjax.models.params import Tree
from rbjax.parallel import mesh as mesh_lib
from rbjax.storage import StoredPath

NO_DATASET = "none"
OF_CASES = ("faces", "clothes", "characters", "prompts", "repeats", "seed")  # options of a suite
DATASET = "avatars/varied"  # of the model that ships
# What a saved model does not say of its training.
DEFAULTS = {
    "seed": 0,
    "data_dir": "",
    "train": {},
    "data": {
        **{"dataset": DATASET, "faces": 1, "clothes": 1},
        **{"vary_references": False, "tasks": {"composition": 1.0}, "prompt_tags": "free"},
        **{"drop_prompt": 0.0, "drop_references": 0.0, "drop_both": 0.0},
        "cache": False,
    },
    "eval": {
        **{"split": "test", "characters": 100, "prompts": 2, "repeats": 3, "open_characters": 25},
        **{"variant_characters": 0, "periodic_characters": 16, "batch_size": 64, "vqa": ""},
        "guidance_characters": 8,
    },
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says; None = as in the model's training, else DEFAULTS.

    Attributes:
        suite: split whose characters are asked for.
        dataset: name in TFDS, or NO_DATASET.
        data_dir: of TFDS.
        vqa: folder of a BLIP-VQA.
        clip: folder of a CLIP.
        dino: folder of a DINO.
        face: ONNX file of a network for faces.
        size: pixels of the images that are scored.
        faces: face references of a case.
        clothes: clothes references of a case.
        characters: how many at most.
        prompts: of a character.
        repeats: images of a prompt.
        seed: of the cases.
    """

    suite: str | None = None
    dataset: str | None = None
    data_dir: str | None = None
    vqa: str | None = None
    clip: str | None = None
    dino: str | None = None
    face: str | None = None
    size: int | None = None
    faces: int | None = None
    clothes: int | None = None
    characters: int | None = None
    prompts: int | None = None
    repeats: int | None = None
    seed: int | None = None


FIELDS = {  # option -> field of the configuration
    **{"suite": "eval.split", "dataset": "data.dataset", "data_dir": "data_dir", "seed": "seed"},
    **{name: f"data.{name}" for name in ("size", "faces", "clothes")},
    **{name: f"eval.{name}" for name in ("vqa", "clip", "dino", "face")},
    **{name: f"eval.{name}" for name in ("characters", "prompts", "repeats")},
}


def configuration(model: Model, options: Options, *, has_model: bool) -> ConfigDict:
    """Returns the configuration of an evaluation.

    Args:
        model: that is evaluated.
        options: of the user.
        has_model: whether the model is evaluated; else its size counts, and nothing else of it.

    Raises:
        ValueError: the options change what the model was trained for, or are no numbers.
    """
    config = ConfigDict(DEFAULTS)
    config.update(ConfigDict(json.loads(model.config.to_json())))
    if has_model and options.size not in (None, config.data.size):
        raise ValueError(
            f"--size={options.size}: the model makes images of {config.data.size} pixels, which "
            "are scored as they are"
        )
    given = {name: value for name, value in vars(options).items() if value is not None}
    config.update_from_flattened_dict({FIELDS[name]: value for name, value in given.items()})
    if options.suite is not None:  # that one alone
        config.eval.out_of_domain_split = ""
    if not has_model:
        config.eval.variant_characters = config.eval.truth_images = 0
        config.eval.out_of_domain_split = ""
    for name in ("characters", "prompts", "repeats"):
        if config.eval[name] < 1:
            raise ValueError(f"--{name}={config.eval[name]}: must be at least 1")
    config.eval.open_characters = min(config.eval.open_characters, config.eval.characters)
    return added_fields.complete(config)


def open_evaluator(
    model: Model,
    config: ConfigDict,
    out: StoredPath,
    others: Mapping[str, Path],
    *,
    has_model: bool,
) -> Evaluator:
    """Returns the evaluator of a suite.

    Args:
        model: that is evaluated.
        config: of `configuration`.
        out: receives results.json and report/.
        others: name of another system to the folder of its images.
        has_model: as of `configuration`; prompts are cut to what a model reads.

    Raises:
        ValueError, FileNotFoundError: there is no such data set or split.
    """
    mesh = mesh_lib.make_mesh(-1, 1, 1)
    devices = mesh.size
    config.eval.batch_size = -(-config.eval.batch_size // devices) * devices
    builder = dataset_lib.prepare(config.data.dataset, config.data_dir)
    dataset_lib.check_split(builder, config.eval.split)
    exp = Experiment(
        config=config,
        pretrained=None,
        mesh=mesh,
        builder=builder,
        tokenizer=model.tokenizer,
        graphdef=model.graphdef,
        schedule=model.schedule,
        sampling=Sampling.from_config(config.sampling),
    )
    evaluator = Evaluator.create(exp, out)
    return dataclasses.replace(evaluator, others=others, has_model=has_model)


def placed(model: Model, evaluator: Evaluator) -> Tree:
    """Returns the model's parameters on all devices of the evaluator's mesh."""
    params = model.params
    if jax.process_count() > 1:  # what is on one process's device cannot go to another's
        params = jax.tree.map(np.asarray, params)
    return jax.device_put(params, mesh_lib.replicated(evaluator.exp.mesh))


def score_foreign(folders: Mapping[str, Path], options: Options, out: StoredPath) -> None:
    """Scores images with manifests of their own; writes results.json and the report.

    Args:
        folders: name of a system to the folder of its images.
        options: of the user; `dataset` gives questions, and the VQA model is measured on it.
        out: receives them.

    Raises:
        ValueError, FileNotFoundError: as `manifest.read` and `judging.create`; options choose cases
            that manifests already name.
    """
    given = [f"--{name}" for name in OF_CASES if getattr(options, name) is not None]
    if given:
        raise ValueError(
            f"{', '.join(given)}: the cases are all that the manifests name; these options choose "
            "the cases of a --suite"
        )
    size = options.size or other_systems.size_of(folders.values())
    print(f"Images are scored at {size} px" + ("." if options.size else ", see --size."))
    foreign = other_systems.read_foreign(folders, size)
    tags = sorted(
        {tag for case in foreign.suite.cases for tag in case.prompt}
        | {tag for shown in foreign.suite.tags.values() for tag in shown}
    )
    judged = _judging(options, size, tags)
    suite = dataclasses.replace(foreign.suite, vocabulary=judged.vocabulary)
    results = scoring.score(foreign.systems, suite, judged.vqa, read_images=foreign.read_images)
    results |= {"judge": judged.record, "questions": judged.coverage}
    results["files"] = {str(number): digest for number, digest in enumerate(foreign.digests)}
    results |= other_measures.of_images(
        judged,
        images=foreign.systems,
        cases=suite,
        records=results["scored"],
        read_images=foreign.read_images,
        region=foreign.region,
    )
    storage.make_folder(out)
    page = report.write(out / "report", results, foreign.systems, read_images=foreign.read_images)
    workdir_lib.write_text(out / "results.json", results_lib.dumps(results))
    if judged.vqa is not None:
        print(results_lib.table(results))
    other_measures.show(results)
    print(f"Results: {out / 'results.json'}; report: {page}")


def _judging(options: Options, size: int, tags: list[str]) -> Judging:
    models = embedders.load(options.clip or "", options.dino or "", options.face or "")
    if options.dataset == NO_DATASET:
        return judging.unmeasured(options.vqa or "", tags, models)
    builder = dataset_lib.prepare(options.dataset or DATASET, options.data_dir or "")
    splits = builder.info.splits
    name = "validation" if "validation" in splits else "train"
    return judging.create(
        options.vqa or "",
        dataset_lib.open_split(builder, name),
        lambda split: dataset_lib.open_split(builder, split),
        names=splits,
        size=size,
        more_tags=tags,
        embedders=models,
    )
