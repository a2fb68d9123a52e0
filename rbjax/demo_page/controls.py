"""What says which images are wanted: references, prompt and numbers; all tabs read the same."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import gradio as gr

from rbjax.demo_page import gallery, pictures, widgets
from rbjax.demo_page import settings as settings_lib
from rbjax.demo_page.settings import MAX_GUIDANCE, MAX_IMAGES, MAX_STEPS, SAMPLING, Settings
from rbjax.demo_page.studio import Studio
from rbjax.diffusion.sampler import METHODS
from rbjax.inference import generation
from rbjax.inference.reference import Reference

PROMPT = "solo, smile, blue background"  # the first face wears sunglasses: no eyes are named
EXAMPLES = (  # title; concept and place in the gallery of each reference; prompt
    ("Face of one, clothes of another", (("face", 0), ("clothes", 1)), PROMPT),
    ("One character, entire", (("character", 2),), "solo, wink, open mouth, pink background"),
    ("Clothes alone", (("clothes", 3),), "solo, open eyes, frown, green background"),
)
MAX_ENLARGED = 4  # a size, in sizes of the training


@dataclasses.dataclass(frozen=True)
class Controls:
    """The components, in the order in which `read` takes their values."""

    references: gr.HTML
    prompt: gr.HTML
    seed: gr.Number
    is_random: gr.Checkbox
    num_images: gr.Slider
    steps: gr.Slider
    guidance_references: gr.Slider
    guidance_prompt: gr.Slider
    size: gr.Dropdown
    method: gr.Dropdown

    def inputs(self) -> list[gr.components.Component]:
        """Returns the components."""
        return [getattr(self, name) for name in NAMES]


NAMES = tuple(field.name for field in dataclasses.fields(Controls))


def read(studio: Studio, *values: Any) -> tuple[Settings, list[Reference]]:
    """Reads the values of `Controls.inputs`: settings, and references.

    Args:
        studio: whose own size counts as none: another model then makes images of its own size.
        *values: of the components.

    Raises:
        ValueError: a sentence about what cannot be used.
    """
    given = dict(zip(NAMES, values, strict=True))
    references = pictures.read_references(given["references"])
    given["seed"] = None if given["is_random"] else given["seed"]
    settings = Settings.read(given)
    if settings.size and settings.size > MAX_ENLARGED * studio.size:
        raise ValueError(
            f"The size is {settings.size}; at most {MAX_ENLARGED * studio.size} can be made, "
            f"{MAX_ENLARGED} times that of the training."
        )
    if settings.size == studio.size:
        settings = dataclasses.replace(settings, size=None)
    return settings, references


def own_sampling(studio: Studio) -> tuple[dict[str, Any], list[str]]:
    """Returns the fields of SAMPLING as in the model's training, and what to tell of them.

    They are the page's nearest where it does not take the training's.
    """
    sampling = generation.default_sampling(studio.model)
    return settings_lib.limited({field: getattr(sampling, field) for field in SAMPLING})


def example_items(parts: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Returns references to pictures of the gallery: concept and place of each."""
    portraits = gallery.portraits()
    return [gallery.item(portraits[place], concept) for concept, place in parts]


def references_and_prompt(studio: Studio) -> tuple[gr.HTML, gr.HTML]:
    """Makes the reference slots and the prompt, filled with the first example."""
    _, parts, prompt = EXAMPLES[0]
    slots = widgets.references(studio, example_items(parts))
    return slots, widgets.prompt(studio, prompt)


def numbers(studio: Studio, references: gr.HTML, prompt: gr.HTML) -> Controls:
    """Makes seed, number of images, guidance, steps, size and sampler."""
    own, said = own_sampling(studio)
    num_images = gr.Slider(1, MAX_IMAGES, 2, step=1, label="Images")
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
        is_random = gr.Checkbox(True, label="New random seed each time", elem_id="random-seed")
    with gr.Row():
        for_references, for_prompt = (
            gr.Slider(0, MAX_GUIDANCE, value, step=0.1, label=f"Guidance of the {name}")
            for name, value in (
                ("references", own["guidance_references"]),
                ("prompt", own["guidance_prompt"]),
            )
        )
    with gr.Row():
        steps = gr.Slider(1, MAX_STEPS, own["steps"], step=1, label="Steps")
        size = gr.Dropdown(
            studio.sizes(), value=studio.size, label="Size in pixels", allow_custom_value=True
        )
        trained = generation.default_sampling(studio.model).method
        method = gr.Dropdown(list(METHODS), value=trained, label="Sampler")
    text = (
        f"Trained at {studio.size} px: other sizes look worse. The first image with another number "
        "of references, of steps, another size or sampler takes longer: its program is compiled."
    )
    gr.Markdown(" ".join([text, *said]))
    return Controls(
        references=references,
        prompt=prompt,
        seed=seed,
        is_random=is_random,
        num_images=num_images,
        steps=steps,
        guidance_references=for_references,
        guidance_prompt=for_prompt,
        size=size,
        method=method,
    )
