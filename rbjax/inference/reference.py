"""Reference images of a user: files of any size, with the box or the mask of a concept."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from rbjax.command_line import local_path
from rbjax.data import crops
from rbjax.data import images as images_lib
from rbjax.text.concepts import CONCEPTS
from tfds_retribooru import boxes, images
from tfds_retribooru.boxes import SizedBox


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """One reference.

    Attributes:
        concept: what to take from it, one of CONCEPTS.
        image: uint8 [H, W, 3].
        box: (left, top, width, height) in pixels, the part that shows the concept; None = all.

    Raises:
        ValueError: unknown concept, another kind of array, or a box that is not inside the image.
    """

    concept: str
    image: np.ndarray
    box: SizedBox | None = None

    def __post_init__(self) -> None:
        if self.concept not in CONCEPTS:
            raise ValueError(f"concept {self.concept!r}: use one of {', '.join(CONCEPTS)}")
        kind = getattr(self.image, "dtype", None), getattr(self.image, "shape", ())[2:]
        if kind != (np.uint8, (3,)):
            raise ValueError(
                f"the image of a {self.concept} reference must be a uint8 array [H, W, 3], not "
                f"{type(self.image).__name__} {kind[0]} {getattr(self.image, 'shape', '')}; "
                "inference.reference.read reads any file so"
            )
        height, width = self.image.shape[:2]
        if self.box is None:
            return
        left, top, w, h = self.box
        if min(left, top) < 0 or min(w, h) < 1 or left + w > width or top + h > height:
            raise ValueError(
                f"the box {left},{top},{w},{h} (left, top, width, height) of a {self.concept} "
                f"reference is not inside its image of {width}x{height} pixels"
            )

    def crop(self, size: int, view: str) -> np.ndarray:
        """Returns the model's input, uint8 [size, size, 3]; `view` is one of data.crops.VIEWS."""
        height, width = self.image.shape[:2]
        box = boxes.from_sized(self.box or (0, 0, width, height))
        return crops.crop_box(self.image, box, size=size, view=view)


def parse(concept: str, text: str) -> Reference:
    """Reads a reference from `FILE`, `FILE@left,top,width,height` or `FILE@MASK`.

    A mask is an image of the size of the file's; the box is that of its pixels over half white
    (transparent ones are black).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is not an image, or box or mask do not fit it.
    """
    if "@" not in text or local_path(text, f"--{concept}").is_file():
        return Reference(concept, read(text))
    file, part = text.rsplit("@", 1)
    image = read(file)
    numbers = part.split(",")
    if len(numbers) == 4 and all(n.strip().lstrip("-").isdigit() for n in numbers):
        left, top, width, height = map(int, numbers)
        return Reference(concept, image, (left, top, width, height))
    if not Path(part).expanduser().is_file():
        raise ValueError(
            f"{text}: after @ stands {part!r}; expected left,top,width,height in whole pixels, or "
            "the file of a mask"
        )
    return Reference(concept, image, mask_box(read(part, background=0), image, text))


def read(path: str | Path, background: int = images_lib.WHITE) -> np.ndarray:
    """Reads an image file of any mode, upright: uint8 [H, W, 3].

    Args:
        path: of the file.
        background: grey value 0 to 255 that shows through where the image is transparent.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image, or it is broken.
    """
    path = local_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no reference image {path}")
    try:
        with Image.open(path) as opened:
            return np.asarray(images.rgb(images.upright(opened), background))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind for a broken file
        raise ValueError(f"{path} is not an image that can be read: {error}") from error


def mask_box(mask: np.ndarray, image: np.ndarray, name: str) -> SizedBox:
    """Returns the box (left, top, width, height) around the mask's pixels over 127.

    Args:
        mask: uint8 [H, W, 3].
        image: uint8 [H, W, 3], that the mask belongs to.
        name: for errors.

    Raises:
        ValueError: the mask is empty, or of another size than the image.
    """
    if mask.shape != image.shape:
        sizes = " and ".join("x".join(map(str, a.shape[1::-1])) for a in (mask, image))
        raise ValueError(f"{name}: mask and image differ in size ({sizes} pixels)")
    rows, columns = (np.flatnonzero((mask[..., 0] > 127).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError(f"{name}: the mask is empty (no pixel is brighter than 127)")
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
