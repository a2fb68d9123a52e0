"""What is done with pictures: hash, questions about clothes, face box and figure mask."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image

from rbjax.vqa import clothes
from tfds_retribooru import images as images_lib
from tfds_retribooru.collect import detectors, near_duplicates, output
from tfds_retribooru.collect.output import Box
from tfds_retribooru.collect.settings import Settings
from tfds_retribooru.retribooru import layout


class Models(NamedTuple):
    """The models of a collection; None for what is not wanted.

    Attributes:
        ask: pictures -> for each, question -> answer.
        face: picture -> box of the face, or None.
        figure: picture -> greyscale mask of its size.
    """

    ask: clothes.Ask | None = None
    face: Callable[[Image.Image], Box | None] | None = None
    figure: Callable[[Image.Image], Image.Image] | None = None


def load_models(settings: Settings) -> Models:
    """Opens the models that the settings name.

    Raises:
        ValueError, FileNotFoundError: one of them cannot be opened.
    """
    face = detectors.load(settings.faces) if settings.faces else None
    figure = detectors.load(settings.figures) if settings.figures else None
    return Models(
        ask=clothes.load(settings.vqa) if settings.vqa else None,
        face=face and (lambda picture: detectors.face_box(face, picture)),
        figure=figure and (lambda picture: detectors.figure_mask(figure, picture)),
    )


def hash_of(folder: pathlib.Path, post: tuple[int, str]) -> bytes | str:
    """Returns the perceptual hash of the picture of (id, file_ext), or the reason for none."""
    path = _path(folder, post)
    if path is None:
        return output.NO_IMAGE
    try:
        return near_duplicates.perceptual_hash(_picture(path))
    except (OSError, images_lib.Unreadable):
        return output.UNREADABLE_IMAGE


def answers(
    ask: clothes.Ask, folder: pathlib.Path, posts: Sequence[tuple[int, str]]
) -> list[dict[str, str]]:
    """Asks about the clothes in the pictures of (id, file_ext), which `hash_of` could read."""
    return ask([_picture(_path(folder, post)) for post in posts])


def detect(models: Models, settings: Settings, post: tuple[int, str]) -> Box | None:
    """Returns the face of the picture of (id, file_ext), and writes its mask as ID.png."""
    picture = _picture(_path(settings.images, post))
    if models.figure:
        settings.masks.mkdir(parents=True, exist_ok=True)
        models.figure(picture).save(settings.masks / f"{post[0]}.png")
    return models.face(picture) if models.face else None


def _path(folder: pathlib.Path, post: tuple[int, str]) -> pathlib.Path | None:
    """The file that the builder will find, so that a box belongs to the picture that is built."""
    return layout.find_image(folder, str(post[0]), post[1])


def _picture(path: pathlib.Path) -> Image.Image:
    """The picture as the builder decodes it: upright RGB."""
    return images_lib.decode(path.read_bytes())
