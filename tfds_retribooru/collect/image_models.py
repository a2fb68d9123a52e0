"""What is computed from images: hash, answers about clothes, face box and figure mask."""

import functools
import importlib.metadata
import itertools
import pathlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from PIL import Image

from tfds_retribooru import images as images_lib
from tfds_retribooru import variants
from tfds_retribooru.boxes import Box
from tfds_retribooru.collect import detectors, filters
from tfds_retribooru.collect.outfits import QUESTIONS
from tfds_retribooru.collect.settings import Settings
from tfds_retribooru.retribooru import layout

VQA_GROUP = "tfds_retribooru.vqa"  # entry points of packages: (folder, questions) -> VqaModel
BATCH = 64  # images that a VQA model is given at a time

ImageName = tuple[int, *tuple[str, ...]]  # id, and as far as they are known file_ext and md5
VqaModel = Callable[[Sequence[Image.Image]], list[dict[str, str]]]  # for each, question -> answer


class Models(NamedTuple):
    """The models of a collection; None for those that are not used.

    Attributes:
        vqa: images -> for each, question -> answer.
        detect_face: image -> box of the face, or None.
        segment_figure: image -> greyscale mask of its size.
    """

    vqa: VqaModel | None = None
    detect_face: Callable[[Image.Image], Box | None] | None = None
    segment_figure: Callable[[Image.Image], Image.Image] | None = None


def load_models(settings: Settings) -> Models:
    """Opens the models that the settings name.

    Raises:
        ValueError, FileNotFoundError: one of them cannot be opened.
    """
    face = detectors.load(settings.faces) if settings.faces else None
    figure = detectors.load(settings.figures) if settings.figures else None
    vqa = find_vqa_loader(settings.vqa_loader)(settings.vqa, QUESTIONS) if settings.vqa else None
    return Models(
        vqa=vqa,
        detect_face=functools.partial(detectors.face_box, face) if face else None,
        segment_figure=functools.partial(detectors.figure_mask, figure) if figure else None,
    )


def find_vqa_loader(name: str = "") -> Callable[[pathlib.Path, Sequence[str]], VqaModel]:
    """Imports the function (folder, questions) -> VqaModel.

    Args:
        name: MODULE:FUNCTION; "" takes the entry point that an installed package has in VQA_GROUP.

    Raises:
        ValueError: there is none, or more than one, or it cannot be imported.
    """
    names = [name] if name else [e.value for e in importlib.metadata.entry_points(group=VQA_GROUP)]
    if len(names) != 1:
        raise ValueError(
            f"--vqa needs one installed package with an entry point {VQA_GROUP}, and there are "
            f"{len(names)} ({', '.join(names) or 'install one again'}): give --vqa_loader "
            "MODULE:FUNCTION"
        )
    try:
        loader = pkgutil.resolve_name(names[0])
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"--vqa_loader {names[0]} cannot be imported: {error}") from error
    if not callable(loader):
        raise ValueError(f"--vqa_loader {names[0]} is no function: give MODULE:FUNCTION")
    return loader


def read_image(folder: pathlib.Path, name: ImageName) -> Image.Image:
    """Reads the file that the builder will find, as it decodes it: upright RGB.

    Raises:
        FileNotFoundError: there is no file.
        OSError, images.Unreadable: it cannot be used.
    """
    path = layout.find_image(folder, str(name[0]), *name[1:])
    if path is None:
        raise FileNotFoundError(f"{folder} has no image {name[0]}")
    return images_lib.decode(path.read_bytes())


def hash_image(folder: pathlib.Path, name: ImageName) -> bytes | str:
    """Returns the perceptual hash of an image, or the reason for none."""
    try:
        return variants.perceptual_hash(read_image(folder, name))
    except FileNotFoundError:
        return filters.NO_IMAGE
    except (OSError, images_lib.Unreadable):
        return filters.UNREADABLE_IMAGE


def answer_questions(
    vqa: VqaModel, folder: pathlib.Path, names: Iterable[ImageName]
) -> Iterator[dict[str, str]]:
    """Yields the answers (question -> answer) about each image, BATCH images at a time."""
    names = iter(names)
    while batch := list(itertools.islice(names, BATCH)):
        yield from vqa([read_image(folder, name) for name in batch])


def detect(models: Models, image: Image.Image, mask: pathlib.Path) -> Box | None:
    """Returns the face in an image; writes the mask of its figure to the file `mask`."""
    if models.segment_figure:
        mask.parent.mkdir(parents=True, exist_ok=True)
        models.segment_figure(image).save(mask)
    return models.detect_face(image) if models.detect_face else None
