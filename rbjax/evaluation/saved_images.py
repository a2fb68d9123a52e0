"""The images of an evaluation as files, so that a report can be drawn again and values recomputed.

`images/ROW/NUMBER.png` is image NUMBER of `results["scored"][ROW]`, whose entry says what it should
show; `images/real/POSITION.png` is the record that the entries name by its position.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.models.pixels import to_uint8

NAME = "images"
REAL = "real"


def of_system(folder: Path, system: str, number: int) -> Path:
    """Returns the file of an image of a system, in the folder of a report."""
    return folder / NAME / system / f"{number:04d}.png"


def of_record(folder: Path, position: int) -> Path:
    """Returns the file of a real image, in the folder of a report."""
    return folder / NAME / REAL / f"{position}.png"


def save(folder: Path, systems: Mapping[str, SystemImages], read_images: ReadImages) -> None:
    """Saves the images of systems and the real ones that their cases name; replaces older ones.

    An image that is not finite is saved in black where it is not; what is wrong with it stands in
    the results.

    Args:
        folder: of the report.
        systems: as they were scored.
        read_images: reads real images.
    """
    shutil.rmtree(folder / NAME, ignore_errors=True)
    positions = {p for s in systems.values() for c in s.cases for p in (*c.references, c.real)}
    real = sorted(position for position in positions if position is not None)
    for name, system in systems.items():
        _save([of_system(folder, name, i) for i in range(len(system.cases))], system.images)
    _save([of_record(folder, position) for position in real], read_images(real) if real else ())


def _save(paths: Sequence[Path], images: np.ndarray | Sequence[np.ndarray]) -> None:
    for path, image in zip(paths, images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = to_uint8(np.nan_to_num(image, nan=-1.0, posinf=-1.0, neginf=-1.0))
        Image.fromarray(pixels).save(path)
