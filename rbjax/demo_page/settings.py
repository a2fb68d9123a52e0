"""Settings of an image: what the page asks for, and how the image's file keeps it."""

import dataclasses
import io
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rbjax.demo_page import pictures
from rbjax.diffusion import sampler
from rbjax.inference.reference import Reference

KEY = "rbjax"  # of the PNG's metadata, as in inference/generation.py
FIELDS = ("prompt", "seed", "steps", "guidance_references", "guidance_prompt", "size", "method")
MAX_STEPS, MAX_IMAGES, MAX_GUIDANCE = 100, 16, 20.0
SAMPLING = {  # field: how it is called, least, most
    "steps": ("number of steps", 1, MAX_STEPS),
    "guidance_references": ("guidance of the references", 0, MAX_GUIDANCE),
    "guidance_prompt": ("guidance of the prompt", 0, MAX_GUIDANCE),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is asked for.

    Attributes:
        prompt: comma-joined tags, at least one.
        seed: of the first image; the next has seed + 1.
        num_images: how many.
        steps: of sampling.
        guidance_references: see `diffusion.guidance.Sampling`.
        guidance_prompt: of the same.
        size: pixels of a side; None = the model's own.
        method: one of `sampler.METHODS`; None = that of the model's training.
    """

    prompt: str
    seed: int
    num_images: int
    steps: int
    guidance_references: float
    guidance_prompt: float
    size: int | None = None
    method: str | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Settings":
        """Reads what the page sends.

        Args:
            values: by field; `seed` None draws one.

        Raises:
            ValueError: a sentence about the first value that cannot be used.
        """
        prompt = str(values["prompt"] or "").strip()
        if not prompt.strip(", "):
            raise ValueError(
                "The prompt is empty: write what the references do not decide, such as "
                '"smile, blue background".'
            )
        seed = secrets.randbelow(2**31) if values["seed"] is None else values["seed"]
        size = values["size"]
        return cls(
            prompt=prompt,
            seed=_number(seed, "seed", 0, 2**32 - MAX_IMAGES, whole=True),
            num_images=_number(values["num_images"], "number of images", 1, MAX_IMAGES, whole=True),
            steps=_number(values["steps"], *SAMPLING["steps"], whole=True),
            guidance_references=_number(
                values["guidance_references"], *SAMPLING["guidance_references"]
            ),
            guidance_prompt=_number(values["guidance_prompt"], *SAMPLING["guidance_prompt"]),
            size=None if size is None else _number(size, "size", 8, 2048, whole=True),
            method=_method(values.get("method")),
        )


def _method(value: Any) -> str | None:
    if value is not None and value not in sampler.METHODS:
        raise ValueError(
            f"The sampler is {value!r}; it must be one of {', '.join(sampler.METHODS)}."
        )
    return value


def _number(value: Any, name: str, low: float, high: float, *, whole: bool = False) -> Any:
    """Returns a number in [low, high].

    Raises:
        ValueError: it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high or (whole and number != round(number)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"The {name} is {value!r}; it must be {kind} from {low:g} to {high:g}.")
    return int(number) if whole else number


def limited(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns values with the nearest that the page allows of SAMPLING, and what to tell of each.

    Args:
        values: by field; what is no number stays.
    """
    found, said = dict(values), []
    for field, (name, low, high) in SAMPLING.items():
        value = values[field]
        if isinstance(value, int | float) and (value < low or value > high):
            found[field] = min(max(value, low), high)
            said.append(
                f"The {name} is {value}; this page takes {low:g} to {high:g}, so "
                f"{found[field]:g} is used."
            )
    return found, said


def png_url(
    image: np.ndarray,
    settings: Settings,
    *,
    references: Sequence[tuple[str, str]],
    model: str,
) -> str:
    """Returns an image as a PNG's data URL, with what `restore` reads.

    Args:
        image: uint8 [H, W, 3].
        settings: with the image's own seed.
        references: concept, and the crop's data URL, as the model saw it, of each.
        model: its name.
    """
    content = {
        "checkpoint": model,
        **{name: getattr(settings, name) for name in FIELDS},
        "size": int(image.shape[0]),
        "references": list(references),
    }
    return pictures.data_url(image, {KEY: json.dumps(content)})


def restore(url: Any) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Reads the settings of a picture that this page or `python -m rbjax.generate` made.

    References are restored as the crops that the model saw. Paths of files in the metadata
    (`rbjax.generate` writes them) are not opened. Numbers that the page does not take (that command
    takes more) are replaced, which the note says.

    Args:
        url: data URL of the picture.

    Returns:
        Values of FIELDS, references as the page holds them, and what to tell.

    Raises:
        ValueError: a sentence: the picture holds no settings, or they are damaged.
    """
    content = _metadata(pictures.data_of(url, "The picture"))
    absent = [name for name in FIELDS if name not in content and name != "method"]  # older: none
    if absent:
        raise ValueError(f"The picture's settings lack {', '.join(absent)}: nothing was restored.")
    prompt = content["prompt"] if isinstance(content["prompt"], str) else ""
    given, said = limited(content)
    if isinstance(given["size"], list):  # [width, height]
        said.append("The picture is not square: the model's own size is used.")
        given["size"] = None
    read = Settings.read(given | {"prompt": prompt or "none", "num_images": 1})
    values = {name: getattr(read, name) for name in FIELDS} | {"prompt": prompt}
    items, lost = [], 0
    for pair in content.get("references") or []:
        item = _item(pair)
        items, lost = (items, lost + 1) if item is None else ([*items, item], lost)
    note = f"Restored from {content.get('checkpoint', 'a model')}, seed {values['seed']}."
    if lost:
        said.append(f"{lost} reference(s) are only named in it: add their pictures again.")
    return values, items[: pictures.MAX_REFERENCES], " ".join([note, *said])


def _metadata(data: bytes) -> dict[str, Any]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            text = image.info.get(KEY)
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"The picture is no PNG that can be read: {error}.") from error
    if not isinstance(text, str):
        raise ValueError("The picture holds no settings: use a PNG that was made here.")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError("The settings of the picture are damaged.") from error
    if not isinstance(content, dict):
        raise ValueError("The settings of the picture are damaged.")
    return content


def _item(pair: Any) -> dict[str, Any] | None:
    """Returns a reference of the metadata, or None if it has no picture."""
    try:
        concept, picture = pair
        Reference(concept, pictures.decode(picture, "A reference"))
    except (TypeError, ValueError):
        return None
    return {"concept": concept, "picture": picture, "box": None}
