"""The base model: trained in small, opened by diffusers, read as `config.pretrained`."""

import dataclasses
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch
from diffusers import AutoencoderKL as TorchAutoencoderKL
from diffusers import StableDiffusionPipeline
from flax import nnx

from configs import base as base_config
from rbjax.diffusion import sampler
from rbjax.diffusion.schedule import Schedule
from rbjax.interop import huggingface, json_files, safetensors_files, shipped_base
from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from rbjax.text import prompts
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.train import autoencoder as autoencoder_lib
from rbjax.train import base, checkpoints

SMALL = AutoencoderKLConfig(
    latent_channels=3, block_out_channels=(4, 6), layers_per_block=1, norm_num_groups=2
)


@pytest.fixture(scope="module")
def trained(avatars_dir, tmp_path_factory):
    """The folder of a base model that was trained for two steps, and its working directory."""
    workdir = tmp_path_factory.mktemp("base")
    config = base_config.get_config()
    data_dir = shutil.copytree(avatars_dir, workdir / "data")  # latents are stored in it
    config.data_dir, config.data.dataset = str(data_dir), "avatars/tiny"
    config.data.size, config.batch_size, config.total_steps, config.log_every = 32, 8, 2, 1
    config.mesh.data = 1
    with pytest.MonkeyPatch.context() as patch:
        unet = {"in_channels": 3, "out_channels": 3, "block_out_channels": (4, 8, 8)}
        unet |= {"norm_num_groups": 2, "cross_attention_dim": 8, "attention_head_dim": 2}
        patch.setattr(base, "UNET", dataclasses.replace(base.UNET, **unet))
        patch.setattr(base, "TEXT_WIDTH", 8)
        settings = dataclasses.replace(
            base.AUTOENCODER, model=SMALL, window=16, window_steps=2, steps=2, decoder_steps=2
        )
        base.train(config, workdir, settings)
        base.export(config, workdir, workdir / "out", dtype=np.float32)
    return workdir


def test_the_unet_trained_and_the_autoencoder_stayed(trained):
    names = ("unet", "text_encoder", "vae")
    before, after = (
        [huggingface.state_dict(huggingface.load(trained / part / name)) for name in names]
        for part in ("start", "out")
    )
    moved = [any((a[k] != b[k]).any() for k in a) for a, b in zip(before, after, strict=True)]
    assert moved == [True, True, False]


def test_the_decoder_trains_on_alone(trained):
    read, folder = ocp.StandardCheckpointer().restore, trained / "autoencoder"
    first = read(folder / "entire" / "checkpoints" / "2" / "state")["ema"]
    last = read(folder / "decoder" / "checkpoints" / "2" / "state")["trained"]
    moved = {
        name: any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), first[name], part)))
        for name, part in last.items()
    }
    alone = {"decoder", "post_quant_conv"}
    assert moved == {name: name in alone for name in (*alone, "encoder", "quant_conv")}


def test_windows_show_what_has_edges():
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, 24:] = 255  # one edge: windows that show it are among four random ones nearly always
    rng = np.random.default_rng(0)
    found = [autoencoder_lib.window(image, 16, rng) for _ in range(200)]
    assert {part.shape for part in found} == {(16, 16, 3)}
    shown = np.mean([len(np.unique(part)) == 2 for part in found])
    chance = 15 / 33  # of the 33 places of a window, 15 show both sides
    assert abs(shown - (1 - (1 - chance) ** 4)) < 0.08


def test_latents_have_unit_variance(trained):
    vae = huggingface.load(trained / "out" / "vae")
    assert vae.config.scaling_factor != 1.0
    config = checkpoints.load_model(trained / "unet").config
    assert config.model.vae.scaling_factor == vae.config.scaling_factor


def test_diffusers_opens_it_and_makes_the_same_image(trained):
    assert_same_image(trained / "out", side=32)


def test_transformers_4_finds_the_weights_of_the_text_encoder(trained):
    tensors = safetensors_files.open_folder(trained / "out" / "text_encoder")
    assert tensors and all(key.startswith("text_model.") for key in tensors)


def test_diffusers_opens_what_ships_and_makes_the_same_image():
    assert_same_image(shipped_base.BASE, side=128)


def assert_same_image(folder: pathlib.Path, side: int) -> None:
    """Compares an image of three steps, from the same noise, with that of diffusers' pipeline."""
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, local_files_only=True, torch_dtype=torch.float32
    )
    prompt, length = "smile, red background", 32
    latent = side // pipe.vae_scale_factor
    shape = (1, latent, latent, pipe.unet.config.in_channels)
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = pipe(
        prompt,
        height=side,
        width=side,
        latents=torch.tensor(noise.transpose(0, 3, 1, 2)),
        num_inference_steps=3,
        guidance_scale=1.0,
        output_type="np",
    ).images[0]
    tokenizer = tokenizer_lib.read_pretrained(folder / "tokenizer", length)
    vae, text, unet = (huggingface.load(folder / name) for name in ("vae", "text_encoder", "unet"))
    schedule = Schedule.from_config(json_files.read(folder / json_files.SCHEDULER_CONFIG))
    states = text(jnp.asarray(prompts.encode(tokenizer, [prompt], length)))
    latents = sampler.sample(
        lambda x, t: unet(x, t, states), noise, schedule, num_steps=3, method="ddim"
    )
    image = (np.clip(vae.decode(latents), -1, 1)[0] + 1) / 2
    np.testing.assert_allclose(image, expected, atol=1e-4)


def test_the_schedule_is_that_of_the_folder(trained):
    config = checkpoints.load_model(trained / "unet").config
    assert Schedule(**dict(config.noise_schedule)) == base.SCHEDULE


def test_loss_of_the_autoencoder_against_torch():
    ours = AutoencoderKL(SMALL, nnx.Rngs(0))
    fields = {k: v for k, v in SMALL.to_dict().items() if k not in ("_class_name", "dtype")}
    theirs = TorchAutoencoderKL(**fields)
    tensors = {k: torch.tensor(v) for k, v in huggingface.state_dict(ours).items()}
    theirs.load_state_dict(tensors)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 10, 6, 3)).astype(np.float32)
    key = jax.random.key(3)
    found = autoencoder_lib.loss(ours, jnp.asarray(images), key, kl_weight=0.01)
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    posterior = theirs.encode(x).latent_dist
    noise = np.asarray(jax.random.normal(key, (2, 5, 3, 3))).transpose(0, 3, 1, 2)
    error = theirs.decode(posterior.mean + posterior.std * torch.tensor(noise)).sample - x
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    expected = error.abs().mean() + 0.5 * edges + error.square().mean()
    expected = expected + 0.01 * posterior.kl().mean()
    np.testing.assert_allclose(float(found), float(expected.detach()), atol=1e-4)
