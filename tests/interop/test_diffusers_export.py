"""An export makes our images in a process without JAX, and comes back exactly."""

import dataclasses
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file
from transformers import CLIPTextModel

from rbjax import generate
from rbjax.diffusion import guidance
from rbjax.diffusion.guidance import Sampling
from rbjax.experiment import setup
from rbjax.inference import model_loading
from rbjax.inference.reference import Reference
from rbjax.interop import diffusers_export, saved_model
from rbjax.interop.saved_model import Model
from rbjax.models import pipeline
from rbjax.parallel import mesh as mesh_lib
from tests.helpers import stable_diffusion_folder, stable_diffusion_run, tiny_saved_model

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROMPT = "smile, red_background"  # both models read underscores as spaces
BOX = (1, 2, 4, 5)
IN_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "flax", "rbjax"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

folder, out, prompt = sys.argv[1:]
torch.set_num_threads(1)
pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
references = [("face", Image.open(out + "/a.png"), (1, 2, 4, 5)),
              ("clothes", Image.open(out + "/b.png"))]
noise = torch.tensor(np.load(out + "/noise.npy")).permute(0, 3, 1, 2)
arguments = dict(num_inference_steps=20, latents=noise, output_type="pt")
images = pipe(prompt, references, **arguments).images
np.save(out + "/images.npy", images.permute(0, 2, 3, 1).numpy())
np.save(out + "/alone.npy", pipe(prompt, **arguments).images.permute(0, 2, 3, 1).numpy())
seen = []
batch = pipe(["smile", prompt], references, **arguments, callback_on_step_end=lambda pipe, step,
             time, tensors: seen.append(tensors["latents"].shape) or {}).images
np.save(out + "/batch.npy", batch.permute(0, 2, 3, 1).numpy())
assert seen == [noise.shape] * 20
pipe.save_pretrained(out + "/saved")
saved = out + "/saved"
pipe = DiffusionPipeline.from_pretrained(saved, custom_pipeline=saved, trust_remote_code=True)
again = pipe(prompt, references, **arguments).images
np.save(out + "/again.npy", again.permute(0, 2, 3, 1).numpy())
pipe.text_encoder.half()  # as transformers loads the text encoder of a `--half` export
half = pipe(prompt, references, **arguments).images
assert (half - again).abs().mean() < 0.05  # random weights make much of rounding
pipe.text_encoder.float()
if pipe.scheduler.config.beta_schedule != "rectified_flow":
    from diffusers import DDIMScheduler
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, method="ddim")
    ours = pipe(prompt, references, **arguments).images
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    torch.testing.assert_close(pipe(prompt, references, **arguments).images, ours)
"""


def stable_diffusion(folder: Path) -> Model:
    """A model on a Stable Diffusion folder: KL autoencoder, CLIP's tokenizer."""
    stable_diffusion_folder.write(folder)
    parts = {f"model.{part}.dtype": "float32" for part in ("unet", "vae", "text")}
    config = stable_diffusion_run.sd15(folder, **parts | {"model.unet.remat": False})
    resolved = setup.resolve(config)
    tokenizer = resolved.pretrained.tokenizer
    graphdef = nnx.split(pipeline.abstract_pipeline(resolved.config, tokenizer))[0]
    params = resolved.pretrained.load_params(mesh_lib.make_mesh(1, 1, 1))
    for level in params["retrinet"]["conjunctions"].values():
        kernel = level["zero_conv"]["kernel"]
        level["zero_conv"]["kernel"] = np.ones(kernel.shape, np.float32) / kernel.shape[-1]
    return Model(resolved.config, tokenizer, graphdef, jax.device_get(params))


@pytest.fixture(
    scope="module", params=["words", pytest.param("stable_diffusion", marks=pytest.mark.slow)]
)
def model(request, tmp_path_factory):
    if request.param == "words":
        made = tiny_saved_model.model()
        made.config.data.underscores_as_spaces = True
        return made
    return stable_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def export(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    diffusers_export.export(model, folder)
    return folder


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def latent_shape(model: Model) -> tuple[int, int, int]:
    """(h, w, C)."""
    settings = model.config.model
    side = model.config.data.size // (settings.patch or 2)
    channels = (
        settings.unet.in_channels if settings.get("vae") else settings.luma + 2 * settings.chroma
    )
    return side, side, channels


@pytest.fixture(scope="module")
def in_torch(model, export, tmp_path_factory):
    """What a process without JAX leaves: images with and without references, and saved/."""
    out = tmp_path_factory.mktemp("torch")
    Image.fromarray(picture(0, 9, 7)).save(out / "a.png")
    Image.fromarray(picture(1, 30, 40)).save(out / "b.png")
    noise = guidance._noise(np.arange(2, dtype=np.uint32), latent_shape(model))
    np.save(out / "noise.npy", noise)
    environment = os.environ | {"HF_HOME": str(out / "hf"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", IN_TORCH, str(export), str(out), PROMPT]
    done = subprocess.run(command, env=environment, cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("file, count", [("images.npy", 2), ("alone.npy", 0)])
def test_the_same_noise_makes_the_same_image_in_torch(model, in_torch, file, count):
    references = [
        Reference("face", picture(0, 9, 7), BOX),
        Reference("clothes", picture(1, 30, 40)),
    ][:count]
    sampling = Sampling.from_config(model.config.sampling)
    sampling = dataclasses.replace(sampling, steps=20)
    ours = generate.generate(model, PROMPT, references, num_images=2, sampling=sampling)
    difference = np.abs(255 * np.load(in_torch / file) - ours)
    assert difference.max() <= 0.6  # ours is rounded to whole numbers
    assert np.ptp(ours) > 30


def test_a_saved_pipeline_loads_and_generates_the_same(in_torch):
    images = np.load(in_torch / "images.npy")
    np.testing.assert_array_equal(np.load(in_torch / "again.npy"), images)


def test_every_prompt_of_a_batch_counts_for_its_own_image(in_torch):
    images, batch = (np.load(in_torch / name) for name in ("images.npy", "batch.npy"))
    np.testing.assert_allclose(batch[1], images[1], atol=1e-4)
    assert np.abs(batch[0] - images[0]).max() > 1e-2


def test_an_export_is_a_saved_model(model, export):
    assert_equal_weights(model_loading.load_model(export).params, model.params)


def test_what_torch_saves_comes_back_exactly(model, in_torch, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["import", "--folder", str(in_torch / "saved"), "--out", str(tmp_path / "m")]
    )
    runpy.run_path(str(SCRIPTS / "import_pytorch.py"), run_name="__main__")
    back = saved_model.load(tmp_path / "m")
    assert_equal_weights(back.params, model.params)
    assert back.graphdef == model.graphdef and back.schedule == model.schedule
    assert back.tokenizer.encode(PROMPT).ids == model.tokenizer.encode(PROMPT).ids


def test_an_export_holds_what_a_new_one_replaces(export):
    assert {path.name for path in export.iterdir()} == set(saved_model.CONTENT)


def test_transformers_4_and_5_find_the_weights_of_the_text_encoder(export):
    keys = load_file(export / "text_encoder" / "model.safetensors").keys()
    assert all(key.startswith("text_model.") for key in keys)  # 4 knows no others
    _, found = CLIPTextModel.from_pretrained(export / "text_encoder", output_loading_info=True)
    assert not any(found.values())


def test_the_single_file_holds_every_weight_with_its_part(export):
    single = load_file(export / diffusers_export.SINGLE_FILE)
    for part, file in diffusers_export.WEIGHTS.items():
        for key, value in load_file(export / part / file).items():
            np.testing.assert_array_equal(single.pop(f"{part}.{key}"), value)
    assert not single


def assert_equal_weights(found: dict, expected: dict) -> None:
    found, expected = tiny_saved_model.flat(found), tiny_saved_model.flat(expected)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
