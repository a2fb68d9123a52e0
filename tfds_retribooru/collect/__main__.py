"""Danbooru metadata and images -> annotations.

    python -m tfds_retribooru.collect --metadata 'meta/*.json' --images DIR --out annotations/

Metadata alone is enough for annotations; --images adds the removal of near copies, and lets --vqa,
--faces and --figures look at the pictures. The guide is tfds_retribooru/collect/README.md.
"""

import argparse
import dataclasses
import glob
import importlib.util
import os
import pathlib
import sys
import time

from tfds_retribooru.collect import filters, near_duplicates, output
from tfds_retribooru.collect.outfits import Rule
from tfds_retribooru.collect.settings import Settings

RULE_HELP = {
    "extra": "outfit rule: share of a post's tags and answers that its outfit may lack",
    "lacking": "outfit rule: share of an outfit's that a post may lack, beside one",
    "margin": "outfit rule: by how much the best outfit must beat the second",
    "min_facts": "outfit rule: tags and answers that a post needs to start an outfit",
}
NEEDS_IMAGES = ("vqa", "faces", "figures")
PACKAGES = {  # option -> what it imports, extra that installs it
    "images": ("imagehash", "collect"),
    "faces": ("onnxruntime", "collect"),
    "figures": ("onnxruntime", "collect"),
    "runner": ("apache_beam", "beam"),
}


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    path = pathlib.Path
    p = argparse.ArgumentParser(
        prog="python -m tfds_retribooru.collect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--metadata",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="files of Danbooru posts: JSON lines or a list, .gz or not, of either dialect",
    )
    p.add_argument("--out", type=path, required=True, help="folder to write; must not exist")
    p.add_argument("--images", type=path, metavar="DIR", help="folder of the pictures")
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
        type=path,
        default=filters.VOCABULARY,
        metavar="FILE",
        help="clothing tags, one a line (default: clothing.txt of this package)",
    )
    p.add_argument("--aliases", type=path, metavar="FILE", help="Danbooru's tag_aliases, as JSON")
    p.add_argument(
        "--implications", type=path, metavar="FILE", help="Danbooru's tag_implications, as JSON"
    )
    p.add_argument("--vqa", type=path, metavar="DIR", help="BLIP-VQA weights for rbjax")
    p.add_argument("--faces", type=path, metavar="ONNX", help="YOLO-style face detector")
    p.add_argument("--figures", type=path, metavar="ONNX", help="figure segmentation (IS-Net)")
    p.add_argument(
        "--masks", type=path, metavar="DIR", help="folder for masks (default: masks beside --out)"
    )
    for field in dataclasses.fields(Rule):
        p.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=field.type,
            default=field.default,
            help=f"{RULE_HELP[field.name]} (default: %(default)s)",
        )
    p.add_argument(
        "--distance",
        type=int,
        default=near_duplicates.DISTANCE,
        help="bits of 256 within which pictures are near copies (default: %(default)s)",
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


def settings_of(args: argparse.Namespace) -> Settings:
    """Reads tables and checks paths.

    Raises:
        ValueError: something is missing, contradicts or cannot be read.
    """
    metadata = sorted({path for pattern in args.metadata for path in glob.glob(pattern)})
    if not metadata:
        raise ValueError(f"--metadata {' '.join(args.metadata)}: no such file")
    if args.images is None and any(getattr(args, name) for name in NEEDS_IMAGES):
        raise ValueError("--vqa, --faces and --figures look at pictures: give --images DIR")
    for name, (package, extra) in PACKAGES.items():
        if getattr(args, name) is not None and importlib.util.find_spec(package) is None:
            raise ValueError(f"--{name} needs {package}: pip install -e '.[{extra}]'")
    for name in ("images", "vqa"):
        folder = getattr(args, name)
        if folder is not None and not folder.is_dir():
            raise ValueError(f"--{name} {folder}: no such folder")
    return Settings(
        metadata=tuple(metadata),
        out=args.out.absolute(),
        wanted=filters.Filter(
            vocabulary=filters.read_vocabulary(args.vocabulary),
            ratings=frozenset(args.ratings),
            aliases=filters.read_aliases(args.aliases) if args.aliases else {},
            implications=filters.read_implications(args.implications) if args.implications else {},
        ),
        rule=Rule(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Rule)}),
        images=args.images and args.images.absolute(),
        distance=args.distance,
        vqa=args.vqa,
        faces=args.faces,
        figures=args.figures,
        masks=args.masks or args.out.absolute().parent / "masks",
        workers=max(1, args.workers),
    )


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args, rest = parser().parse_known_args(argv)
    if rest and not args.runner:
        parser().error(f"unknown options {' '.join(rest)} (only --runner takes further options)")
    started = time.monotonic()
    try:
        settings = settings_of(args)
        if args.runner:
            from tfds_retribooru.collect import run_beam  # extra [beam]

            counts = run_beam.collect(settings, [f"--runner={args.runner}", *rest])
        else:
            from tfds_retribooru.collect import run_local

            counts = run_local.collect(settings)
    except (ValueError, OSError) as error:
        sys.exit(f"collect: {error}")
    for reason, count in counts.most_common():
        print(f"{count:>12,}  {reason}")
    seconds = time.monotonic() - started
    print(f"{settings.out}: annotations and {output.DROPPED_FILE}, {seconds:,.0f} s")


if __name__ == "__main__":
    main()
