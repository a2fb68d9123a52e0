"""The page: its tabs, what they share, and how it is served."""

import contextlib
import dataclasses
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from absl import logging

from rbjax.demo_page import gallery, pictures, results, tags, widgets
from rbjax.demo_page import settings as settings_lib
from rbjax.demo_page.results import ASSETS
from rbjax.demo_page.settings import MAX_IMAGES, MAX_STEPS, Settings
from rbjax.demo_page.studio import Studio
from rbjax.inference import generation

PROMPT = "smile, blue background"
EXAMPLES = (  # title; concept and place in the gallery of each reference; prompt
    ("Face of one, clothes of another", (("face", 0), ("clothes", 1)), PROMPT),
    ("One character, entire", (("character", 2),), "open mouth, wink, pink background"),
    ("Clothes alone", (("clothes", 3),), "frown, green background"),
)
FAILED = "The program failed; its terminal says why. Try again, or with other settings."
QUEUE = {"concurrency_id": "model", "concurrency_limit": 1}  # one user's images at a time


@dataclasses.dataclass(frozen=True)
class Controls:
    """What says which images are wanted; all tabs read the same ones."""

    references: gr.HTML
    prompt: gr.HTML
    seed: gr.Number
    is_random: gr.Checkbox
    num_images: gr.Slider
    steps: gr.Slider
    guidance_references: gr.Slider
    guidance_prompt: gr.Slider
    size: gr.Dropdown

    def inputs(self) -> list[gr.components.Component]:
        """Returns the components in the order in which `read` takes their values."""
        return [getattr(self, field.name) for field in dataclasses.fields(self)]


NAMES = tuple(field.name for field in dataclasses.fields(Controls))


def read(*values: Any) -> tuple[Settings, list[Any]]:
    """Reads the values of `Controls.inputs`: settings, and references.

    Raises:
        ValueError: a sentence about what cannot be used.
    """
    given = dict(zip(NAMES, values, strict=True))
    references = pictures.read_references(given["references"])
    seed = None if given["is_random"] else given["seed"]
    return Settings.read({**given, "seed": seed}), references


def build(studio: Studio) -> gr.Blocks:
    """Builds the page of a model."""
    with gr.Blocks(title="rbjax", analytics_enabled=False) as page:
        gr.Markdown(
            f"# rbjax: compose a character from references\n{studio.name}, {studio.size} px. The "
            "references decide face and clothes, the prompt decides everything else."
        )
        with gr.Tab("Compose"):
            _compose_tab(studio)
    page.queue(default_concurrency_limit=1, max_size=32, api_open=False)
    return page


def _compose_tab(studio: Studio) -> Controls:
    with gr.Row():
        with gr.Column(min_width=340):
            controls, status, buttons = _controls(studio)
        with gr.Column(min_width=340):
            shown, restore = widgets.results("results"), widgets.restore()
    generate, cancel, dice, *examples = buttons
    outputs = [status, shown, controls.seed]

    def run(*values: Any) -> Iterator[tuple[Any, ...]]:
        yield from generate_images(studio, *values)

    event = gr.on(
        [generate.click, controls.prompt.submit],
        run,
        controls.inputs(),
        outputs,
        show_progress="hidden",
        api_visibility="private",
        **QUEUE,
    )
    cancelled = results.status("Cancelled.")
    cancel.click(
        lambda: cancelled, None, status, cancels=[event], queue=False, api_visibility="private"
    )
    _change(dice.click, lambda text: _randomized(text, studio), controls.prompt, controls.prompt)
    for button, (_, parts, prompt) in zip(examples, EXAMPLES, strict=True):
        values = example_items(parts), prompt
        _change(button.click, lambda v=values: v, None, [controls.references, controls.prompt])
    names = ["references", *settings_lib.FIELDS]
    restored = [getattr(controls, name) for name in names]
    _change(restore.change, _restore, restore, [status, controls.is_random, *restored])
    return controls


def _change(event: Any, function: Any, inputs: Any, outputs: Any) -> None:
    """Lets an event change the page without waiting for the model."""
    event(function, inputs, outputs, show_progress="hidden", queue=False, api_visibility="private")


def _controls(studio: Studio) -> tuple[Controls, gr.HTML, list[gr.Button]]:
    """Makes the controls, the place for status, and the buttons."""
    _, parts, prompt = EXAMPLES[0]
    sampling = generation.default_sampling(studio.model)
    gr.Markdown("Examples:")
    with gr.Row():
        examples = [gr.Button(title, size="sm") for title, *_ in EXAMPLES]
    references = widgets.references(studio, example_items(parts))
    text = widgets.prompt(studio, prompt)
    dice = gr.Button("Random expression and background", size="sm")
    with gr.Row():
        generate = gr.Button("Generate", variant="primary", elem_id="generate")
        cancel = gr.Button("Cancel", elem_id="cancel")
    status = widgets.status("status")
    num_images = gr.Slider(1, MAX_IMAGES, 2, step=1, label="Images")
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
        is_random = gr.Checkbox(True, label="New random seed each time", elem_id="random-seed")
    with gr.Row():
        for_references = gr.Slider(
            *(0, 5, sampling.guidance_references), step=0.1, label="Guidance of the references"
        )
        for_prompt = gr.Slider(
            *(0, 5, sampling.guidance_prompt), step=0.1, label="Guidance of the prompt"
        )
    with gr.Row():
        steps = gr.Slider(1, MAX_STEPS, sampling.steps, step=1, label="Steps")
        size = gr.Dropdown(studio.sizes(), value=studio.size, label="Size in pixels")
    gr.Markdown(
        f"Trained at {studio.size} px: other sizes look worse. The first image with another number "
        "of references, of steps or another size takes longer: its program is compiled."
    )
    controls = Controls(
        *(references, text, seed, is_random, num_images, steps, for_references, for_prompt, size)
    )
    return controls, status, [generate, cancel, dice, *examples]


def generate_images(studio: Studio, *values: Any) -> Iterator[tuple[Any, ...]]:
    """Yields (status, results, seed) of the page while it makes images.

    Args:
        studio: the model.
        *values: of `Controls.inputs`.
    """
    try:
        settings, references = read(*values)
        if settings.size == studio.size:
            settings = dataclasses.replace(settings, size=None)
        yield results.status("Starting ..."), gr.skip(), settings.seed
        wanted, made = studio.wanted(settings, references), []
        for image in studio.images(settings, references, wanted):
            made.append(image)
            text = f"Image {len(made)} of {settings.num_images}, seed {image.seed}."
            yield (
                results.status(text),
                results.render(studio, settings, references, made),
                gr.skip(),
            )
    except ValueError as error:
        yield results.status(str(error), is_error=True), gr.skip(), gr.skip()
    except Exception:
        logging.exception("The page could not make an image")
        yield results.status(FAILED, is_error=True), gr.skip(), gr.skip()


def example_items(parts: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Returns references to pictures of the gallery: concept and place of each."""
    portraits = gallery.portraits()
    return [gallery.item(portraits[place], concept) for concept, place in parts]


def _randomized(text: str, studio: Studio) -> str:
    return tags.randomized(str(text or ""), studio.vocabulary, random.randrange(2**32))


def _restore(url: Any) -> tuple[Any, ...]:
    """Returns status, is_random, references and the values of settings_lib.FIELDS."""
    try:
        values, items, note = settings_lib.restore(url)
    except ValueError as error:
        return (
            results.status(str(error), is_error=True),
            *[gr.skip()] * (len(settings_lib.FIELDS) + 2),
        )
    return (
        *(results.status(note), False, items),
        *(values[name] for name in settings_lib.FIELDS),
    )


def warm_up(studio: Studio) -> None:
    """Compiles what the page's first image needs."""
    _, parts, prompt = EXAMPLES[0]
    sampling = generation.default_sampling(studio.model)
    values = {
        **{"prompt": prompt, "seed": 0, "num_images": 1, "size": None},
        **{"steps": sampling.steps, "guidance_references": sampling.guidance_references},
        "guidance_prompt": sampling.guidance_prompt,
    }
    settings, references = Settings.read(values), pictures.read_references(example_items(parts))
    list(studio.images(settings, references, studio.wanted(settings, references)))


@contextlib.contextmanager
def serving(page: gr.Blocks, *, host: str, port: int | None, share: bool) -> Iterator[str]:
    """Serves a page from threads until the block ends; files go to a temporary folder.

    Args:
        page: of `build`.
        host: address that is listened on.
        port: None = the first free one from 7860.
        share: whether Gradio makes a public address.

    Yields:
        The address for a browser.
    """
    with tempfile.TemporaryDirectory(prefix="rbjax_demo_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        _, address, shared = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            max_file_size=pictures.MAX_BYTES,
            footer_links=[],
            theme=gr.themes.Base(
                font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
            ),
            css=(ASSETS / "page.css").read_text(),
        )
        try:
            yield shared or address
        finally:
            page.close(verbose=False)
