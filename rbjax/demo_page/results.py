"""Results as HTML: images, their answers and their retrieval maps."""

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from rbjax.demo_page import pictures
from rbjax.demo_page import settings as settings_lib
from rbjax.demo_page.settings import Settings
from rbjax.demo_page.studio import Image, Studio
from rbjax.inference.reference import Reference
from rbjax.inference.retrieval_map import RetrievalMap

ASSETS = Path(__file__).parent / "assets"
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # Okabe and Ito


class Results:
    """The images of a request as HTML; each picture is encoded once."""

    def __init__(self, studio: Studio, settings: Settings, references: Sequence[Reference]) -> None:
        """Takes what the images are made by and of; none is there yet."""
        self._studio, self._settings = studio, settings
        crops = studio.crops(references, settings.size)
        self._references = [
            (reference.concept, pictures.data_url(crop))
            for reference, crop in zip(references, crops, strict=True)
        ]
        self._images: list[dict[str, Any]] = []

    def add(self, image: Image) -> str:
        """Adds an image; returns the HTML of all. Texts of users are escaped."""
        self._images.append(_image(image, self._studio, self._settings, self._references))
        return template("results.html.jinja").render(
            prompt=self._settings.prompt,
            colors=COLORS,
            references=[
                {"name": f"{number} {concept}", "url": url}
                for number, (concept, url) in enumerate(self._references, 1)
            ],
            images=self._images,
            unasked=self._studio.why_unasked(self._settings),
        )


def template(name: str) -> jinja2.Template:
    """Returns a template of `assets/`; what it is filled with is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)


def _image(
    image: Image, studio: Studio, settings: Settings, references: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    method = studio.sampling(settings).method
    own = dataclasses.replace(settings, seed=image.seed, method=method)
    return {
        "url": settings_lib.png_url(image.pixels, own, references=references, model=studio.name),
        "file": f"rbjax_{image.seed:06d}.png",
        "seed": image.seed,
        "size": image.pixels.shape[0],
        "answers": image.answers,
        "right": sum(answer.is_right for answer in image.answers),
        "map": None if image.map is None else _map(image.map),
    }


def _map(found: RetrievalMap) -> dict[str, Any]:
    """Returns the map as bytes: shares in percent, weights from 0 to 255 of a region's largest."""
    weights = found.weights[0]  # [h, w, R, y, x]
    largest = weights.max(axis=(-3, -2, -1), keepdims=True)
    scaled = 255 * weights / np.maximum(largest, 1e-12)
    height, width, _, rows, columns = weights.shape
    return {
        **{"height": height, "width": width, "rows": rows, "columns": columns},
        "shares": _base64(100 * found.shares()[0]),
        "weights": _base64(scaled),
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.round(values).astype(np.uint8).tobytes()).decode("ascii")


def status(text: str, *, is_error: bool = False) -> str:
    """Returns the HTML of a sentence; an error is read out at once by screen readers."""
    kind, role = ("rb-error", "alert") if is_error else ("rb-note", "status")
    escaped = jinja2.utils.markupsafe.escape(text)
    return f'<p class="rb-status {kind}" role="{role}">{escaped}</p>'
