"""The first tab: composes images with one model."""

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from absl import logging

from rbjax.demo_page import controls as controls_lib
from rbjax.demo_page import results, tags, widgets
from rbjax.demo_page import settings as settings_lib
from rbjax.demo_page import turns as turns_lib
from rbjax.demo_page.controls import EXAMPLES, Controls
from rbjax.demo_page.studio import Studio
from rbjax.demo_page.turns import Turns
from rbjax.demo_page.widgets import QUIET
from rbjax.inference import generation

FAILED = "The program failed; its terminal says why. Try again, or with other settings."


def build(studio: Studio, turns: Turns) -> Controls:
    """Makes the tab's content; returns its controls."""
    with gr.Row():
        with gr.Column(min_width=340):
            gr.Markdown("Examples:")
            with gr.Row():
                examples = [gr.Button(title, size="sm") for title, *_ in EXAMPLES]
            references, prompt = controls_lib.references_and_prompt(studio)
            dice = gr.Button(
                "Random expression and background",
                size="sm",
                visible=bool(tags.drawn(studio.vocabulary)),
            )
            with gr.Row():
                generate = gr.Button("Generate", variant="primary", elem_id="generate")
                cancel = gr.Button("Cancel", elem_id="cancel")
            status, note = told = widgets.told("status")
            controls = controls_lib.numbers(studio, references, prompt)
        with gr.Column(min_width=340):
            shown, restore = widgets.results("results"), widgets.restore()

    def randomize(text: Any) -> str:
        return tags.randomized(str(text or ""), studio.vocabulary, random.randrange(2**32))

    turns_lib.connect(
        turns,
        [generate.click, prompt.submit],
        cancel,
        functools.partial(generate_images, studio, turns),
        name="compose",
        inputs=controls.inputs(),
        told=told,
        outputs=[shown, controls.seed],
    )
    _change(dice.click, randomize, prompt, prompt)
    for button, (_, parts, text) in zip(examples, EXAMPLES, strict=True):
        values = controls_lib.example_items(parts), text
        _change(button.click, lambda values=values: values, None, [references, prompt])
    names = ["references", *settings_lib.FIELDS]
    restored = [getattr(controls, name) for name in names]
    outputs = [status, note, controls.is_random, *restored]
    _change(restore.change, functools.partial(_restore, studio), restore, outputs)
    return controls


def _change(event: Any, function: Callable[..., Any], inputs: Any, outputs: Any) -> None:
    """Lets an event change the page without waiting for the model."""
    event(function, inputs, outputs, queue=False, **QUIET)


def generate_images(
    studio: Studio, turns: Turns, ticket: str, *values: Any
) -> Iterator[tuple[Any, ...]]:
    """Yields (status, results, seed) of the page while it makes images.

    Args:
        studio: the model.
        turns: of the page.
        ticket: of the request.
        *values: of `Controls.inputs`.
    """
    try:
        settings, references = controls_lib.read(studio, *values)
        yield results.status("Starting ..."), gr.skip(), settings.seed
        made = studio.images(settings, references, studio.wanted(settings, references))
        shown = results.Results(studio, settings, references)
        for number, image in enumerate(turns.take(ticket, made), 1):
            text = f"Image {number} of {settings.num_images}, seed {image.seed}."
            yield results.status(text), shown.add(image), gr.skip()
    except Exception as error:
        yield tell(error), gr.skip(), gr.skip()


def tell(error: Exception) -> str:
    """Returns the status for an error: its sentence if it is about what the user gave."""
    if isinstance(error, ValueError):
        return results.status(str(error), is_error=True)
    logging.error("The page failed", exc_info=error)
    return results.status(FAILED, is_error=True)


def _restore(studio: Studio, url: Any) -> tuple[Any, ...]:
    """Returns status, note, is_random, references and the values of settings_lib.FIELDS."""
    try:
        values, items, said = settings_lib.restore(url)
    except ValueError as error:
        return (tell(error), "", *[gr.skip()] * (len(settings_lib.FIELDS) + 2))
    own = generation.default_sampling(studio.model)
    values["method"] = values["method"] or own.method  # older pictures: that of the training
    restored = [values[name] for name in settings_lib.FIELDS]
    return (results.status(said), "", False, items, *restored)
