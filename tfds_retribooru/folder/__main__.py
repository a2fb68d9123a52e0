"""Finds the faces of the pictures in a folder, so that `composition` can be trained on them.

    python -m tfds_retribooru.folder DIR --faces face.onnx

writes DIR/faces.jsonl, which the builder `folder` reads: see tfds_retribooru/folder/README.md.
The detector is a YOLO-style one in ONNX, as tfds_retribooru/collect/detectors.py describes.
"""

import argparse
import functools
import importlib.util
from collections.abc import Sequence

import tqdm

from tfds_retribooru.building.records import Record
from tfds_retribooru.collect import detectors
from tfds_retribooru.folder import faces, layout
from tfds_retribooru.local_paths import local_path


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=local_path, help="that holds CHARACTER/IMAGE")
    parser.add_argument("--faces", type=local_path, metavar="ONNX", required=True, help="detector")
    parser.add_argument(
        "--min_score", type=float, default=detectors.FACE_SCORE, help="least score of a face"
    )
    options = parser.parse_args(arguments)
    root = options.directory
    if not root.is_dir():
        parser.error(f"{root} is not a folder")
    if (root / faces.NAME).exists():
        parser.error(f"{root / faces.NAME} is there already: move it away to detect faces again")
    if importlib.util.find_spec("onnxruntime") is None:
        parser.error("--faces needs onnxruntime: pip install -e '.[collect]'")
    try:
        detector = detectors.load(options.faces)
        names = [item.id for item in layout.read(root) if isinstance(item, Record)]
        detect = functools.partial(detectors.face_box, detector, min_score=options.min_score)
        count, found, unreadable = faces.write(root, tqdm.tqdm(names, desc="faces"), detect)
    except ValueError as error:
        parser.error(str(error))
    print(
        f"{root / faces.NAME}: {count:,} pictures, {found:,} with a face, {unreadable:,} that "
        "cannot be read."
    )


if __name__ == "__main__":
    main()
