"""The second tab: two models make the images that the first tab asks for."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from rbjax.demo_page import compose_tab, results, widgets
from rbjax.demo_page import controls as controls_lib
from rbjax.demo_page import turns as turns_lib
from rbjax.demo_page.controls import Controls
from rbjax.demo_page.studio import Studio
from rbjax.demo_page.turns import Turns


def build(studios: Sequence[Studio], controls: Controls, turns: Turns) -> None:
    """Makes the tab's content.

    Args:
        studios: the models that can be chosen; the first is the first tab's.
        controls: of the first tab.
        turns: of the page.
    """
    names = [studio.name for studio in studios]
    gr.Markdown(
        "Both make images of the references, the prompt, the seed and the numbers of the first tab."
        + ("" if len(names) > 1 else " For others, start with `--checkpoint` for each of them.")
    )
    with gr.Row():
        chosen = [
            gr.Dropdown(names, value=name, label=label)
            for name, label in ((names[0], "First model"), (names[-1], "Second model"))
        ]
    with gr.Row():
        compare = gr.Button("Compare", variant="primary", elem_id="compare")
        cancel = gr.Button("Cancel", elem_id="compare-cancel")
    told = widgets.told("compare-status")
    with gr.Row():
        shown = []
        for side in ("first", "second"):
            with gr.Column(min_width=340):
                shown.append(widgets.results(f"compare-{side}"))

    turns_lib.connect(
        turns,
        [compare.click],
        cancel,
        functools.partial(compare_images, studios, turns),
        name="compare",
        inputs=[*chosen, *controls.inputs()],
        told=told,
        outputs=[*shown, controls.seed],
    )


def compare_images(
    studios: Sequence[Studio], turns: Turns, ticket: str, first: str, second: str, *values: Any
) -> Iterator[tuple[Any, ...]]:
    """Yields (status, first results, second results, seed) while images are made.

    Args:
        studios: the models.
        turns: of the page.
        ticket: of the request.
        first: name of one of them.
        second: name of another one, or the same.
        *values: of `Controls.inputs`.
    """
    try:
        settings, references = controls_lib.read(studios[0], *values)
        named = {studio.name: studio for studio in studios}
        pair = [named[first], named[second]]
        yield results.status("Starting ..."), gr.skip(), gr.skip(), settings.seed
        made = [
            studio.images(settings, references, studio.wanted(settings, references))
            for studio in pair
        ]
        shown = [results.Results(studio, settings, references) for studio in pair]
        for number, found in enumerate(turns.take(ticket, zip(*made, strict=True)), 1):
            html = [side.add(image) for side, image in zip(shown, found, strict=True)]
            text = f"Image {number} of {settings.num_images}, seed {settings.seed + number - 1}."
            yield results.status(text), *html, gr.skip()
    except Exception as error:
        yield compose_tab.tell(error), gr.skip(), gr.skip(), gr.skip()
