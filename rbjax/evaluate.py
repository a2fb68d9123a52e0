"""Scores a model, or the images of any system, on the cases of a suite.

    python -m rbjax.evaluate --checkpoint runs/composition --suite test --out scores

The images of another system stand in the same table:

    python -m rbjax.evaluate --suite test --write_manifest --out cases
    python -m rbjax.evaluate --suite test --images NAME=cases --out scores

The first writes what is to be made. Without --suite a manifest may hold any cases
(rbjax/evaluation/manifest.py describes it). Two evaluations are compared case by case:

    python -m rbjax.evaluate --compare scores_a scores_b

Several hosts generate for a --checkpoint as they train, see --coordinator.
"""

import argparse
import dataclasses
import re
from pathlib import Path

from rbjax.command_line import (
    ArgumentParser,
    add_process_options,
    local_path,
    one_line_errors,
    read_process_options,
    set_environment,
)

if __name__ == "__main__":
    set_environment()  # before JAX and TensorFlow are imported

import jax

from rbjax import storage
from rbjax.evaluation import compare, other_systems
from rbjax.inference import evaluation
from rbjax.inference.evaluation import Options
from rbjax.inference.model_loading import load_model
from rbjax.parallel import distributed

__all__ = ["main", "parse_args", "run"]

MODELS = ("vqa", "clip", "dino", "face")  # options that name folders or files of this machine
NONE = "none"
SHIPPED = "shipped"
MEMORY = "lower --characters; or give images of fewer pixels"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or `argv` in its place."""
    parser = ArgumentParser(
        prog="python -m rbjax.evaluate",
        description="Scores a model, or the images of any system, on the cases of a suite.",
        epilog="A suite is the cases of a split of the data set: validation (for choices while "
        "developing), test, test_out_of_domain. Options that are not given are those of the "
        "model's training.",
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        default=NONE,
        metavar="RUN|MODEL|EXPORT|shipped|none",
        help="what to score: --workdir of a training, a saved model, an export (default: none)",
    )
    add("--suite", help="split whose characters are asked for (default with a model: test)")
    add(
        "--images",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="images of another system, with manifest.jsonl; as often as wanted",
    )
    add("--out", help="folder of results.json and report/, or of the cases")
    add("--write_manifest", action="store_true", help="write the suite's cases for others to fill")
    add(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two evaluations: paired differences B - A",
    )
    add(
        "--rows",
        nargs=2,
        default=("trained", "trained"),
        metavar=("ROW_A", "ROW_B"),
        help="systems that are compared (default: trained trained)",
    )
    add("--vqa", help="folder of the BLIP-VQA that is asked (default: the one that ships)")
    add("--clip", help="folder of a CLIP of transformers: columns CLIP-I, CLIP-T (default: none)")
    add("--dino", help="folder of a DINO of transformers: columns DINO (default: none)")
    add("--face", help="ONNX file of a network for faces: column face distance (default: none)")
    add(
        "--dataset", help="name in TFDS; none: images of no data set, the VQA model is not measured"
    )
    add("--data_dir", help="of TFDS")
    for name, text in (
        ("size", "pixels to which other systems' images are reduced"),
        ("faces", "face references of a case"),
        ("clothes", "clothes references of a case"),
        ("characters", "how many at most"),
        ("prompts", "of a character"),
        ("repeats", "images of a prompt, with different seeds"),
        ("seed", "of the choice of cases"),
    ):
        add(f"--{name}", type=int, help=text)
    add_process_options(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Does what the command line asks for.

    Raises:
        ValueError, OSError: for what the user can put right.
    """
    if args.compare:
        _compare(args)
        return
    if args.out is None:
        raise ValueError("--out is missing: where the results go")
    path_of = local_path if args.write_manifest else storage.stored_path
    out = path_of(args.out, "--out")
    if (out / "checkpoints").is_dir():
        raise ValueError(
            f"--out={out} is the folder of a training, whose results.json and report would be "
            "replaced: name another one"
        )
    for name in MODELS:
        local_path(getattr(args, name) or "", f"--{name}")
    folders = _folders(args.images)
    _check_free(out, folders)
    options = Options(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Options)})
    has_model = args.checkpoint != NONE
    if jax.process_count() > 1 and (args.write_manifest or not has_model):
        raise ValueError("several processes generate for a --checkpoint: use one process for this")
    if not has_model and args.suite is None:
        if args.write_manifest or not folders:
            raise ValueError(
                "nothing to score: give --checkpoint, --images, or a --suite whose real images and "
                "baselines are scored"
            )
        evaluation.score_foreign(folders, options, out)
        return
    model = load_model(args.checkpoint if has_model and args.checkpoint != SHIPPED else None)
    config = evaluation.configuration(model, options, has_model=has_model)
    with distributed.primary_first():  # it builds the data set and measures the VQA model
        evaluator = evaluation.open_evaluator(model, config, out, folders, has_model=has_model)
    if args.write_manifest:
        path = other_systems.write_cases(
            Path(out), evaluator.suite(), config.eval.split, evaluator.generator.read_record
        )
        print(f"Cases: {path}. Make the image of each line, then --images NAME={out}")
        return
    storage.make_folder(out)
    distributed.connect(evaluator.exp.mesh)
    with jax.set_mesh(evaluator.exp.mesh):
        evaluator.final(model.step, evaluation.placed(model, evaluator) if has_model else None)


def _check_free(out: storage.StoredPath, folders: dict[str, Path]) -> None:
    """Raises ValueError where results would replace what no evaluation wrote."""
    pages = out / "report"
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out={out} is a file: name a folder")
    for folder in folders.values():
        if folder.resolve().is_relative_to(Path(pages).resolve()):
            raise ValueError(
                f"--out={out}: its report would replace the images in {folder}; name another folder"
            )
    if pages.exists() and not (out / "results.json").exists():
        raise ValueError(
            f"--out={out}: the folder {pages} would be replaced, and no results.json says that an "
            "evaluation wrote it; name another one, or remove it"
        )


def _folders(texts: list[str]) -> dict[str, Path]:
    """Reads `[NAME=]DIR`; raises ValueError for a URL, or a name that is there twice."""
    folders: dict[str, Path] = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        path = local_path(folder if separator else text, "--images")
        name = name if separator else path.absolute().name
        if not re.fullmatch(r"\w[\w.-]*", name):  # it is a folder's name in the report
            raise ValueError(
                f"--images={text}: a row cannot be called {name!r}; give NAME=DIR, with a name of "
                "letters, digits, _, - and ."
            )
        if name in folders or name in other_systems.RESERVED:
            raise ValueError(f"--images={text}: another row is called {name!r}; give NAME=DIR")
        folders[name] = path
    return folders


def _compare(args: argparse.Namespace) -> None:
    first, second = (
        compare.read(storage.stored_path(folder, "--compare")) for folder in args.compare
    )
    names = [
        str(folder) if row == "trained" else f"{folder} ({row})"
        for folder, row in zip(args.compare, args.rows, strict=True)
    ]
    differences = compare.compare(first, second, tuple(args.rows))
    print(compare.table(differences, (names[0], names[1])))


def main() -> None:
    """Runs the command; ends with one line where the user can put something right."""
    args = parse_args()
    with one_line_errors(MEMORY):
        distributed.initialize(**read_process_options(args))
        run(args)
        distributed.wait_for_all()


if __name__ == "__main__":
    main()
