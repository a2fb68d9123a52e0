"""The ComfyUI nodes of an export, in a stand-in for ComfyUI."""

import importlib.util
import inspect
import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from rbjax.interop import diffusers_export
from tests.helpers import tiny_saved_model


class Cancelled(Exception):
    """What ComfyUI raises in a node when the user cancels."""


class Bar:
    """ComfyUI's progress bar."""

    done = 0

    def __init__(self, total: int):
        Bar.done, Bar.total = 0, total

    def update(self, count: int) -> None:
        Bar.done += count


@pytest.fixture(autouse=True)
def cancelled():
    """Set item 0 to cancel."""
    cancel = [False]

    def check() -> None:
        if cancel[0]:
            raise Cancelled

    management.throw_exception_if_processing_interrupted = check
    return cancel


def load():
    """The module of the nodes."""
    path = diffusers_export.SOURCES / "comfyui_retrinet.py"
    spec = importlib.util.spec_from_file_location("comfyui_retrinet", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


management = ModuleType("comfy.model_management")
management.get_torch_device = lambda: torch.device("cpu")
utils = ModuleType("comfy.utils")
utils.ProgressBar = Bar
package = ModuleType("comfy")
package.model_management, package.utils = management, utils
with pytest.MonkeyPatch.context() as patch:
    for fake in (package, management, utils):
        patch.setitem(sys.modules, fake.__name__, fake)
    comfyui = load()


class FakePipeline:
    """Notes its arguments; makes black images."""

    def __call__(
        self, prompt, references, num_images_per_prompt, generator, callback_on_step_end, **settings
    ):
        for step in range(settings["num_inference_steps"]):
            assert callback_on_step_end(self, step, 0, {"latents": 1}) == {"latents": 1}
        self.prompt, self.references, self.settings = prompt, references, settings
        self.seeds = [g.initial_seed() for g in generator]
        return SimpleNamespace(images=torch.zeros(num_images_per_prompt, 3, 4, 6))


@pytest.mark.parametrize("name", comfyui.NODE_CLASS_MAPPINGS)
def test_nodes_keep_comfyuis_contract(name):
    node = comfyui.NODE_CLASS_MAPPINGS[name]
    inputs = node.INPUT_TYPES()
    assert set(inputs) <= {"required", "optional"}
    parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
    assert set(parameters) - {"self"} == set(inputs["required"]) | set(inputs.get("optional", ()))
    for names in inputs.get("optional", ()):
        assert parameters[names].default is not inspect.Parameter.empty
    kinds = [kind for part in inputs.values() for kind, *_ in part.values()]
    assert all(isinstance(kind, str | list) for kind in kinds)  # no other choices are checked
    assert all(isinstance(kind, str) for kind in node.RETURN_TYPES)
    assert isinstance(node.RETURN_TYPES, tuple) and isinstance(node.CATEGORY, str)
    assert name in comfyui.NODE_DISPLAY_NAME_MAPPINGS


def test_reference_nodes_chain_and_read_masks():
    image, mask = torch.ones(2, 5, 7, 3), torch.zeros(1, 5, 7)
    mask[0, 1:3, 2:6] = 1
    (first,) = comfyui.RetriNetReference().add(image, "face", mask)
    (both,) = comfyui.RetriNetReference().add(image[:1], "clothes", previous=first)
    assert [(c, picture.size, box) for c, picture, box in both] == [
        ("face", (7, 5), (2, 1, 4, 2)),
        ("face", (7, 5), (2, 1, 4, 2)),
        ("clothes", (7, 5), None),
    ]
    with pytest.raises(ValueError, match="the mask is empty .* disconnect the mask"):
        comfyui.RetriNetReference().add(image, "face", torch.zeros(1, 64, 64))
    with pytest.raises(
        ValueError, match=r"masks \(1 of 6x5 pixels\) .* images \(2 of 7x5 pixels\)"
    ):
        comfyui.RetriNetReference().add(image, "face", mask[:, :, 1:])


def test_pixels_beyond_white_stay_white():
    ((_, picture, _),) = comfyui.RetriNetReference().add(torch.full((1, 5, 7, 3), 1.1), "face")[0]
    assert picture.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_images_of_any_float_type_and_channels(kind, channels, mode):
    image = torch.full((1, 5, 7, channels), 0.5, dtype=kind)
    image[0, 0, 0] = float("nan")
    mask = torch.zeros(1, 5, 7, dtype=kind)
    mask[0, 1:3, 2:6] = 1
    ((_, picture, box),) = comfyui.RetriNetReference().add(image, "face", mask)[0]
    assert (picture.mode, picture.size, box) == (mode, (7, 5), (2, 1, 4, 2))
    values = np.asarray(picture).reshape(5, 7, channels)
    assert (values[0, 0] == 0).all() and (values[1:] == 128).all()


@pytest.mark.parametrize("shape", [(1, 5, 7, 2), (1, 5, 7), (5, 7)])
def test_other_channels_are_named(shape):
    with pytest.raises(ValueError, match=r"must be \[B, H, W, channels\] with 1 .* 3 .* 4"):
        comfyui.RetriNetReference().add(torch.zeros(shape), "face")


def test_the_generating_node_returns_images_in_comfyuis_axes(cancelled):
    pipe = FakePipeline()
    (images,) = comfyui.RetriNetGenerate().generate(pipe, "smile", 7, 2, 3, 1.5, 2.5)
    assert images.shape == (2, 4, 6, 3)
    assert pipe.seeds == [7, 8] and pipe.references == []
    assert pipe.settings["num_inference_steps"] == 3
    assert (pipe.settings["guidance_references"], pipe.settings["guidance_prompt"]) == (1.5, 2.5)
    assert (Bar.done, Bar.total) == (3, 3)
    cancelled[0] = True
    with pytest.raises(Cancelled):
        comfyui.RetriNetGenerate().generate(pipe, "smile", 7, 2, 3, 1.5, 2.5)


def test_the_generating_node_starts_with_the_exports_own_settings():
    pipe = FakePipeline()
    pipe.config = SimpleNamespace(sampling={"steps": 4})
    inputs = comfyui.RetriNetGenerate.INPUT_TYPES()["required"]
    names = ("steps", "guidance_references", "guidance_prompt")
    comfyui.RetriNetGenerate().generate(pipe, "", 0, 1, *(inputs[n][1]["default"] for n in names))
    assert pipe.settings["num_inference_steps"] == 4
    assert pipe.settings["guidance_references"] is pipe.settings["guidance_prompt"] is None


def test_the_nodes_work_outside_of_comfyui(tmp_path):
    diffusers_export.export(tiny_saved_model.model(), tmp_path)
    alone = load()
    (pipe,) = alone.RetriNetLoad().load(str(tmp_path))
    (images,) = alone.RetriNetGenerate().generate(pipe, "smile", 7, 1, 2, 1.5, 2.5)
    assert images.shape == (1, 8, 8, 3) and pipe.retrinet.dtype == torch.float32


def test_a_graph_loads_an_export_once_and_generates(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    diffusers_export.export(tiny_saved_model.model(), tmp_path / "my export-1.0")
    folder, node = f'"{tmp_path / "my export-1.0"}" ', comfyui.RetriNetLoad
    with torch.inference_mode():  # as ComfyUI
        (pipe,) = node().load(folder, "float32")
        assert node().load(folder, "float32")[0] is pipe
        assert node().load(folder, "bfloat16")[0].retrinet.dtype == torch.bfloat16
        (references,) = comfyui.RetriNetReference().add(torch.rand(2, 9, 11, 3), "face")
        most = comfyui.RetriNetGenerate.INPUT_TYPES()["required"]["seed"][1]["max"]
        settings = (most, 2, 2, 2.0, 3.0, references)
        (images,) = comfyui.RetriNetGenerate().generate(pipe, "smile", *settings)
    assert images.shape == (2, 8, 8, 3) and images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    before = node.IS_CHANGED(folder, "float32")
    assert node.IS_CHANGED(folder, "float32") == before
    os.utime(tmp_path / "my export-1.0" / "model_index.json", (0, 0))
    assert node.IS_CHANGED(folder, "float32") != before
    with pytest.raises(ValueError, match="RetriNet Load: .*wrong/model_index.json is missing"):
        node().load(str(tmp_path / "wrong"), "float32")
