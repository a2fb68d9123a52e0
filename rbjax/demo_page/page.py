"""The page: its tabs, and how it is served."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence

import gradio as gr

from rbjax.demo_page import compare_tab, compose_tab, pictures, run_tab
from rbjax.demo_page import controls as controls_lib
from rbjax.demo_page.controls import EXAMPLES
from rbjax.demo_page.results import ASSETS
from rbjax.demo_page.settings import Settings
from rbjax.demo_page.studio import Studio
from rbjax.demo_page.turns import Turns
from rbjax.storage import StoredPath


def build(studios: Sequence[Studio], runs: Sequence[StoredPath] = ()) -> gr.Blocks:
    """Builds the page.

    Args:
        studios: models, at least one, with different names; the first one composes.
        runs: working directories of trainings that are shown.
    """
    studio, turns = studios[0], Turns()
    with gr.Blocks(title="rbjax", analytics_enabled=False) as page:
        gr.Markdown(
            f"# rbjax: compose a character from references\n{studio.name}, {studio.size} px. The "
            "references decide face and clothes, the prompt decides everything else."
        )
        with gr.Tab("Compose") as compose:
            controls = compose_tab.build(studio, turns)
        with gr.Tab("Compare") as compare:
            compare_tab.build(studios, controls, turns)
        with gr.Tab("Training") as training:
            run_tab.build(runs, training, [compose, compare])
    page.queue(default_concurrency_limit=1, max_size=32, api_open=False)
    return page


def warm_up(studio: Studio) -> None:
    """Compiles what the page's first image needs."""
    _, parts, prompt = EXAMPLES[0]
    own, _ = controls_lib.own_sampling(studio)
    values = {"prompt": prompt, "seed": 0, "num_images": 1, "size": None}
    settings = Settings.read(values | own)
    references = pictures.read_references(controls_lib.example_items(parts))
    list(studio.images(settings, references, studio.wanted(settings, references)))


def _theme() -> gr.themes.Base:
    """Returns a theme without fonts of other servers, and with enough contrast."""
    blue, darker = "#0b5cad", "#084a8c"
    theme = gr.themes.Base(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return theme.set(
        color_accent=blue,
        button_primary_background_fill=blue,
        button_primary_background_fill_hover=darker,
        button_primary_background_fill_dark=blue,
        button_primary_background_fill_hover_dark=darker,
        body_text_color_subdued="#4b5563",
    )


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
            theme=_theme(),
            css=(ASSETS / "page.css").read_text(),
        )
        try:
            yield shared or address
        finally:
            page.close(verbose=False)
