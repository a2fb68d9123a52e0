"""The second tab: two models make the images that the first tab asks for."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from rbjax.demo_page import compose_tab, results, widgets
from rbjax.demo_page import controls as controls_lib
from rbjax.demo_page.compose_tab import QUEUE, QUIET
from rbjax.demo_page.controls import Controls
from rbjax.demo_page.studio import Studio


def build(studios: Sequence[Studio], controls: Controls) -> None:
    """Makes the tab's content.

    Args:
        studios: the models that can be chosen; the first is the first tab's.
        controls: of the first tab.
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
        cancel = gr.Button("Cancel")
    status = widgets.status("compare-status")
    with gr.Row():
        shown = []
        for side in ("first", "second"):
            with gr.Column(min_width=340):
                shown.append(widgets.results(f"compare-{side}"))

    def run(first: str, second: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        yield from compare_images(studios, (first, second), *values)

    event = compare.click(
        run, [*chosen, *controls.inputs()], [status, *shown, controls.seed], **QUIET, **QUEUE
    )
    compose_tab.stop(cancel, status, event)


def compare_images(
    studios: Sequence[Studio], chosen: Sequence[str], *values: Any
) -> Iterator[tuple[Any, ...]]:
    """Yields (status, first results, second results, seed) while images are made.

    Args:
        studios: the models.
        chosen: names of two of them.
        *values: of `Controls.inputs`.
    """
    try:
        settings, references = controls_lib.read(studios[0], *values)
        pair = [next(studio for studio in studios if studio.name == name) for name in chosen]
        yield results.status("Starting ..."), gr.skip(), gr.skip(), settings.seed
        made = [
            studio.images(settings, references, studio.wanted(settings, references))
            for studio in pair
        ]
        images: list[list[Any]] = [[], []]
        for number, found in enumerate(zip(*made, strict=True), 1):
            html = []
            for studio, image, side in zip(pair, found, images, strict=True):
                side.append(image)
                html.append(results.render(studio, settings, references, side))
            text = f"Image {number} of {settings.num_images}, seed {settings.seed + number - 1}."
            yield results.status(text), *html, gr.skip()
    except Exception as error:
        yield compose_tab.tell(error), gr.skip(), gr.skip(), gr.skip()
