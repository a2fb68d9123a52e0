"""The images of an evaluation as files, so that a report can be drawn again and values recomputed.

`images/ROW/NUMBER.png` is image NUMBER of `results["scored"][ROW]`, whose entry says what it should
show; `images/real/POSITION.png` is the record that the entries name by its position.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, PngImagePlugin

from rbjax import storage
from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.models.pixels import to_uint8
from rbjax.storage import StoredPath

NAME = "images"
REAL = "real"


def of_system(folder: StoredPath, system: str, number: int) -> StoredPath:
    """Returns the file of an image of a system, in the folder of a report."""
    return folder / NAME / system / f"{number:04d}.png"


def of_record(folder: StoredPath, position: int) -> StoredPath:
    """Returns the file of a real image, in the folder of a report."""
    return folder / NAME / REAL / f"{position}.png"


def save(folder: StoredPath, systems: Mapping[str, SystemImages], read_images: ReadImages) -> None:
    """Saves the images of systems and the real ones that their cases name; replaces older ones.

    An image that is not finite is saved in black where it is not; what is wrong with it stands in
    the results.

    Args:
        folder: of the report.
        systems: as they were scored.
        read_images: reads real images.
    """
    storage.remove_folder(folder / NAME)
    positions = {p for s in systems.values() for c in s.cases for p in (*c.references, c.real)}
    real = sorted(position for position in positions if position is not None)
    for name, system in systems.items():
        _save([of_system(folder, name, i) for i in range(len(system.cases))], system.images)
    _save([of_record(folder, position) for position in real], read_images(real) if real else ())


def _save(paths: Sequence[StoredPath], images: np.ndarray | Sequence[np.ndarray]) -> None:
    for path, image in zip(paths, images, strict=True):
        pixels = to_uint8(np.nan_to_num(image, nan=-1.0, posinf=-1.0, neginf=-1.0))
        write(Image.fromarray(pixels), path)


def write(image: Image.Image, path: StoredPath, info: PngImagePlugin.PngInfo | None = None) -> None:
    """Writes an image as PNG, with `info` in it; its folder is made."""
    content = io.BytesIO()
    image.save(content, "png", pnginfo=info)
    storage.make_folder(path.parent)
    path.write_bytes(content.getvalue())
