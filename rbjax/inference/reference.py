"""Reference images of a user: files of any size, with the box or the mask of a concept."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from rbjax.command_line import local_path
from rbjax.data import crops
from rbjax.text.concepts import CONCEPTS
from tfds_retribooru import boxes, decoding, masks
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
        if not boxes.is_inside(self.box, width, height):
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

    The names of files and of their folders may hold an @. A mask is an image of the size of the
    file's; the box is that of its figure, see tfds_retribooru.masks.decode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is not an image, or box or mask do not fit it.
    """
    file, part = _split(concept, text)
    image = read(file)
    if part is None:
        return Reference(concept, image)
    if _is_box(part):
        left, top, width, height = map(int, part.split(","))
        return Reference(concept, image, (left, top, width, height))
    if not os.path.isfile(os.path.expanduser(part)):
        raise ValueError(
            f"{text}: after @ stands {part!r}; expected left,top,width,height in whole pixels, or "
            "the file of a mask"
        )
    return Reference(concept, image, mask_box(local_path(part).read_bytes(), image, part))


def _split(concept: str, text: str) -> tuple[str, str | None]:
    """Returns the file, and what stands after the @ that ends it, if one does."""

    def is_file(name: str) -> bool:  # Path.is_file raises an error for a long name
        return os.path.isfile(local_path(name, f"--{concept}"))

    if "@" not in text or is_file(text):
        return text, None
    places = [i for i, letter in enumerate(text) if letter == "@"][::-1]
    splits = [(text[:i], text[i + 1 :]) for i in places]
    whole = [split for split in splits if is_file(split[0])]
    parts = [split for split in splits if _is_box(split[1]) or is_file(split[1])]
    both = [split for split in whole if split in parts]
    return next(iter(both + whole + parts), (text, None))


def _is_box(part: str) -> bool:
    numbers = part.split(",")
    return len(numbers) == 4 and all(n.strip().lstrip("-").isdigit() for n in numbers)


def read(path: str | Path) -> np.ndarray:
    """Reads an image file of any mode, upright, in sRGB, over white: uint8 [H, W, 3].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image, or it is broken.
    """
    path = local_path(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no reference image {path}")
    try:
        return np.asarray(decoding.decode(path.read_bytes()).image)
    except decoding.Unreadable as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from error


def mask_box(data: bytes, image: np.ndarray, name: str) -> SizedBox:
    """Returns the box (left, top, width, height) around the figure of a mask.

    Args:
        data: of the mask's file.
        image: uint8 [H, W, 3], that the mask belongs to.
        name: of the mask, for errors.

    Raises:
        ValueError: the mask is not an image, empty, full or of another size than the image.
    """
    height, width = image.shape[:2]
    try:
        mask = masks.decode(data, (width, height))
        masks.check_content(mask)
    except decoding.Unreadable as error:
        raise ValueError(f"{name} cannot be used as a mask: {error}") from error
    figure = np.asarray(mask) > masks.THRESHOLD
    rows, columns = (np.flatnonzero(figure.any(axis=axis)) for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
