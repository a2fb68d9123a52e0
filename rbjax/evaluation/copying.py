"""Copying: is an image nearer to its reference than to a real image that is none?

The measure of MultiID-Bench (rbjax/metrics/copy_paste.py), over any embedding: 1 is the reference
itself, -1 the real image ("target"), 0 neither. It needs no question and no label.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rbjax.evaluation.baselines import ReadImages, SystemImages
from rbjax.evaluation.columns import Column
from rbjax.evaluation.suite import Case
from rbjax.metrics.copy_paste import angles, copy_paste
from rbjax.models.pixels import to_uint8

# N images, float32 [N, H, W, 3] in [-1, 1] -> N vectors [N, D]
Embed = Callable[[np.ndarray], np.ndarray]
SIDE = 16  # pixels


def small_pixels(images: np.ndarray) -> np.ndarray:
    """Returns images shrunk to SIDE x SIDE, as vectors around gray."""
    small = [
        np.asarray(Image.fromarray(to_uint8(image)).resize((SIDE, SIDE), Image.Resampling.BOX))
        for image in images
    ]
    return np.stack(small).reshape(len(images), -1) / 127.5 - 1


def of_systems(
    systems: Mapping[str, SystemImages],
    read_images: ReadImages,
    embeddings: Mapping[str, Embed],
    *,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Returns {system: {embedding: cell}}, cells as of `Column.summary`; null where none counts.

    Counted are the cases with a real image. Of several references it is the one that the image is
    nearest to. An image that is not finite is not scored.

    Args:
        systems: the rows.
        read_images: reads real images.
        embeddings: name -> what makes vectors; "pixels" (`small_pixels`) is always there.
        resamples: of the bootstrap.
    """
    spaces = {"pixels": small_pixels, **embeddings}
    counted = {
        name: [i for i, c in enumerate(s.cases) if c.real is not None and not c.is_open]
        for name, s in systems.items()
    }
    positions = sorted(
        {
            position
            for name, numbers in counted.items()
            for i in numbers
            for position in _named(systems[name].cases[i])
        }
    )
    if not positions:
        return {name: dict.fromkeys(spaces) for name in systems}
    real, place = read_images(positions), {p: i for i, p in enumerate(positions)}
    vectors = {space: embed(real) for space, embed in spaces.items()}
    return {
        name: {
            space: _cell(systems[name], numbers, embed, vectors[space], place, resamples)
            for space, embed in spaces.items()
        }
        for name, numbers in counted.items()
    }


def _named(case: Case) -> tuple[int, ...]:
    assert case.real is not None  # counted
    return (*case.references, case.real)


def _cell(
    system: SystemImages,
    numbers: Sequence[int],
    embed: Embed,
    real: np.ndarray,
    place: Mapping[int, int],
    resamples: int,
) -> dict[str, Any] | None:
    """Returns the cell of a system in one embedding."""
    sound = [i for i in numbers if np.isfinite(system.images[i]).all() and i not in system.faults]
    values = dict.fromkeys(numbers, np.nan)
    if sound:
        for i, vector in zip(sound, embed(system.images[sound]), strict=True):
            *references, target = (real[place[position]] for position in _named(system.cases[i]))
            nearest = references[int(np.argmin([angles(vector, r) for r in references]))]
            values[i] = float(copy_paste(vector, target, nearest))
    cases = [system.cases[i] for i in numbers]
    characters, repeats = [c.character for c in cases], [c.repeat for c in cases]
    return Column(list(values.values()), characters, repeats).summary(resamples)
