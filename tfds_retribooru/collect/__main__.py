"""Danbooru metadata and images -> annotations.

    python -m tfds_retribooru.collect --metadata 'meta/*.json' --images DIR --out annotations/

Metadata is enough for annotations; --images adds the removal of near copies, and lets --vqa,
--faces and --figures read the images. The guide is tfds_retribooru/collect/README.md.
"""

import argparse
import dataclasses
import glob
import importlib.util
import os
import pathlib
import sys
import time

from tfds_retribooru.collect import filters, near_duplicates, outcome, output
from tfds_retribooru.collect.filters import Criteria
from tfds_retribooru.collect.outfits import Rule
from tfds_retribooru.collect.settings import Settings
from tfds_retribooru.local_paths import local_path, shown

RULE_HELP = {
    "extra": "outfit rule: share of a post's tags and answers that its outfit may lack",
    "lacking": "outfit rule: share of an outfit's that a post may lack, beside one",
    "margin": "outfit rule: by how much the best outfit must beat the second",
    "min_facts": "outfit rule: tags and answers that a post needs to start an outfit",
}
NEEDS_IMAGES = ("vqa", "faces", "figures")
PACKAGES = {  # option -> what it imports, extra that installs it
    "faces": ("onnxruntime", "collect"),
    "figures": ("onnxruntime", "collect"),
    "runner": ("apache_beam", "beam"),
}


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command's options."""
    p = argparse.ArgumentParser(
        prog="python -m tfds_retribooru.collect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_metadata(p)
    _add_images(p)
    for field in dataclasses.fields(Rule):
        text = f"{RULE_HELP[field.name]} (default: %(default)s)"
        kind = type(field.default)
        p.add_argument(f"--{field.name}", type=kind, default=field.default, help=text)
    p.add_argument(  # as it was spelled at first
        "--min-facts",
        dest="min_facts",
        type=int,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    p.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count(),
        help="processes (default: all cores)",
    )
    p.add_argument(
        "--runner",
        help="an Apache Beam runner, such as DirectRunner, DataflowRunner, FlinkRunner or "
        "SparkRunner; further options are passed on to it",
    )
    return p


def _add_metadata(p: argparse.ArgumentParser) -> None:
    """Adds the options about metadata and the output."""
    p.add_argument(
        "--metadata",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="files of posts: JSON in any form, compressed or not, in the dialects of the README; "
        "a name with * ? [ is a pattern (** is any folder) where no file has it",
    )
    p.add_argument("--out", type=local_path, required=True, help="folder to write; must not exist")
    p.add_argument(
        "--max_unreadable",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of posts that may be unreadable, of files that may break off or be no JSON, "
        "and of images that may be missing; above it the collection fails (default: %(default)s)",
    )
    p.add_argument(
        "--min_kept",
        type=float,
        default=0.005,
        metavar="SHARE",
        help="share of the posts that has to be kept; below it the collection fails (default: "
        "%(default)s)",
    )
    p.add_argument(
        "--ratings",
        nargs="+",
        default=list(filters.RATINGS),
        choices=["general", "safe", "sensitive", "questionable", "explicit"],
        help="ratings to collect; `safe` is the old dialect's s, `sensitive` the new one's "
        "(default: general safe)",
    )
    p.add_argument(
        "--vocabulary",
        type=local_path,
        default=filters.VOCABULARY,
        metavar="FILE",
        help="clothing tags, one a line (default: clothing.txt of this package)",
    )
    p.add_argument(
        "--aliases", type=local_path, metavar="FILE", help="Danbooru's tag_aliases, as JSON"
    )
    p.add_argument(
        "--implications",
        type=local_path,
        metavar="FILE",
        help="Danbooru's tag_implications, as JSON",
    )


def _add_images(p: argparse.ArgumentParser) -> None:
    """Adds the options about images and models."""
    p.add_argument("--images", type=local_path, metavar="DIR", help="folder of the images")
    p.add_argument(
        "--distance",
        type=int,
        default=near_duplicates.DISTANCE,
        help="bits of 256 within which images are near copies (default: %(default)s)",
    )
    p.add_argument("--vqa", type=local_path, metavar="DIR", help="model that answers about clothes")
    p.add_argument(
        "--vqa_loader",
        default="",
        metavar="MODULE:FUNCTION",
        help="function (DIR, questions) that opens --vqa (default: that of the package installed "
        "with this one)",
    )
    p.add_argument("--faces", type=local_path, metavar="ONNX", help="YOLO-style face detector")
    p.add_argument(
        "--figures", type=local_path, metavar="ONNX", help="figure segmentation (IS-Net)"
    )
    p.add_argument(
        "--masks",
        type=local_path,
        metavar="DIR",
        help="folder for masks (default: masks beside --out)",
    )


def check(args: argparse.Namespace) -> None:
    """Checks options against each other, installed packages and folders.

    Raises:
        ValueError: something is missing or contradicts.
    """
    if args.images is None and any(getattr(args, name) for name in NEEDS_IMAGES):
        raise ValueError("--vqa, --faces and --figures read images: give --images DIR")
    for name, (package, extra) in PACKAGES.items():
        if getattr(args, name) is not None and importlib.util.find_spec(package) is None:
            raise ValueError(f"--{name} needs {package}: pip install -e '.[{extra}]'")
    for name in ("images", "vqa"):
        folder = getattr(args, name)
        if folder is not None and not folder.is_dir():
            raise ValueError(f"--{name} {folder}: no such folder")


def read_settings(args: argparse.Namespace) -> Settings:
    """Reads the tables that the options name and makes the settings.

    Raises:
        ValueError: something is missing, contradicts or cannot be read.
    """
    metadata = sorted({path for pattern in args.metadata for path in _files(pattern)})
    if not metadata:
        raise ValueError(f"--metadata {' '.join(args.metadata)}: no such file")
    check(args)
    return Settings(
        metadata=tuple(metadata),
        out=args.out.absolute(),
        criteria=Criteria(
            vocabulary=filters.read_vocabulary(args.vocabulary),
            ratings=frozenset(args.ratings),
            aliases=filters.read_aliases(args.aliases) if args.aliases else {},
            implications=filters.read_implications(args.implications) if args.implications else {},
        ),
        rule=Rule(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Rule)}),
        images=args.images and args.images.absolute(),
        distance=args.distance,
        vqa=args.vqa,
        vqa_loader=args.vqa_loader,
        faces=args.faces,
        figures=args.figures,
        masks=args.masks,
        workers=max(1, args.workers),
        max_unreadable=args.max_unreadable,
        min_kept=args.min_kept,
    )


def _files(pattern: str) -> list[str]:
    """Returns the file of that name, else those that match the pattern.

    Folders in front of the pattern that exist are taken literally. Links to nothing count, so that
    opening them tells.

    Raises:
        ValueError: it is a folder, or can be read only once.
    """
    path = pathlib.Path(os.path.expanduser(pattern))
    if path.is_dir():
        raise ValueError(f"--metadata {pattern} is a folder: name its files, as '{path}/*.json'")
    if path.is_fifo() or path.is_char_device():
        raise ValueError(
            f"--metadata {pattern} is no file on a disk, and metadata is read more than once: "
            "write it to a file"
        )
    if path.exists():
        return [str(path)]
    folder = next(parent for parent in path.parents if parent.is_dir())
    found = glob.glob(str(path.relative_to(folder)), root_dir=folder, recursive=True)
    return [str(folder / name) for name in found if not (folder / name).is_dir()]


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args, rest = parser().parse_known_args(argv)
    if rest and not args.runner:
        parser().error(f"unknown options {' '.join(rest)} (only --runner takes further options)")
    started = time.monotonic()
    try:
        settings = read_settings(args)
        if args.runner:
            from tfds_retribooru.collect import run_beam  # extra [beam]

            counts = run_beam.collect(settings, [f"--runner={args.runner}", *rest])
        else:
            from tfds_retribooru.collect import run_local

            counts = run_local.collect(settings)
    except (ValueError, OSError) as error:
        sys.exit(f"collect: {error}")
    print(outcome.line("read", outcome.number_read(counts)))
    for reason, count in counts.most_common():
        print(outcome.line(reason, count))
    seconds = time.monotonic() - started
    print(f"{shown(str(settings.out))}: annotations and {output.DROPPED_FILE}, {seconds:,.0f} s")


if __name__ == "__main__":
    main()
