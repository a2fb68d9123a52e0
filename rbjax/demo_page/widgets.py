"""The page's own parts: HTML and JavaScript of `assets/` in Gradio's HTML component.

Pictures come and go inside of these parts' values, as data URLs: Gradio's own file components,
which keep files and paths on the server, are not used.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from rbjax.demo_page import gallery, pictures, tags
from rbjax.demo_page.results import ASSETS
from rbjax.demo_page.studio import Studio
from rbjax.interop.saved_model import SPACES
from rbjax.text.concepts import CONCEPTS

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Call = dict[str, Any]  # what the browser sends to a function of the server


def references(studio: Studio, items: list[dict[str, Any]]) -> gr.HTML:
    """Makes the reference slots; their value is what `pictures.read_references` reads."""

    def preview(call: Call) -> dict[str, str]:
        try:
            reference = pictures.read_reference(call["item"], int(call["number"]))
        except (KeyError, TypeError, ValueError) as error:
            return {"error": str(error)}
        return {"crop": pictures.data_url(studio.crops([reference])[0])}

    def mask(call: Call) -> dict[str, Any]:
        try:
            return {"box": pictures.mask_box(call["item"], call["mask"], int(call["number"]))}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": str(error)}

    return _html(
        "references",
        items,
        [preview, mask],
        gallery=[
            {
                "picture": p.picture,
                "boxes": p.boxes,
                "title": f"{p.name}: {', '.join(p.tags.values())}",
            }
            for p in gallery.portraits()
        ],
        types=list(CONCEPTS),
        max_references=pictures.MAX_REFERENCES,
        max_bytes=pictures.MAX_BYTES,
        elem_id="references",
    )


def prompt(studio: Studio, value: str) -> gr.HTML:
    """Makes the prompt with completion and marks; its value is the text."""
    forms, kinds = tags.forms_of(studio.vocabulary), tags.kinds_of(studio.vocabulary)

    def complete(call: Call) -> list[str]:
        return tags.complete(str(call["prompt"]), forms)

    def mark(call: Call) -> list[dict[str, str]]:
        return tags.mark(
            str(call["prompt"]),
            call["concepts"],
            kinds=kinds,
            tokenizer=studio.model.tokenizer,
            spaced=studio.model.config.data.get(SPACES, False),  # older saved models lack it
        )

    return _html("prompt", value, [complete, mark], elem_id="prompt")


def restore() -> gr.HTML:
    """Makes the place for a picture whose settings are restored; its value is a data URL."""
    return _html("restore", None, [], elem_id="restore")


def results(name: str) -> gr.HTML:
    """Makes the place for what `results.Results` returns."""
    return gr.HTML(
        value="",
        js_on_load=(ASSETS / "results.js").read_text(),
        elem_id=name,
        apply_default_css=False,
    )


def status(name: str | None) -> gr.HTML:
    """Makes the place for what `results.status` returns."""
    return gr.HTML(value="", js_on_load=None, elem_id=name, apply_default_css=False)


def told(name: str) -> tuple[gr.HTML, gr.HTML]:
    """Makes the places for what a request to the model says, and for what was done to it.

    Two places, because an image that is under way may arrive after the user has cancelled it.
    """
    with gr.Column(elem_id=name, elem_classes="rb-told"):
        return status(None), status(None)


def _html(name: str, value: Any, functions: list[Callable[[Call], Any]], **props: Any) -> gr.HTML:
    return gr.HTML(
        value=value,
        html_template=(ASSETS / f"{name}.html").read_text(),
        js_on_load="\n".join(path.read_text() for path in sorted(ASSETS.glob(f"{name}*.js"))),
        server_functions=functions,
        apply_default_css=False,
        **props,
    )
