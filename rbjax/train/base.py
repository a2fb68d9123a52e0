"""The base model: autoencoder, text encoder and UNet of a Stable Diffusion in miniature."""

import pathlib

import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from rbjax.data import dataset as dataset_lib
from rbjax.data.dataset import Split
from rbjax.data.image_cache import ConceptCrops
from rbjax.diffusion.schedule import Schedule
from rbjax.interop import stable_diffusion_folder
from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from rbjax.models.clip_text import CLIPTextConfig, CLIPTextModel
from rbjax.models.params import nnx_state
from rbjax.models.unet import UNet2DConditionModel
from rbjax.models.unet_config import UNetConfig
from rbjax.parallel import mesh as mesh_lib
from rbjax.text.concepts import CHARACTER
from rbjax.train import autoencoder as autoencoder_lib
from rbjax.train import checkpoints, loop

AUTOENCODER = autoencoder_lib.Settings(
    model=AutoencoderKLConfig(
        latent_channels=16,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
    ),
    window=64,
    window_steps=8000,
    window_batch=8,
    steps=1500,
    decoder_steps=3000,
    batch_size=4,
    learning_rate=1e-3,
    final_rate=3e-4,
    kl_weight=1e-7,
)
UNET = UNetConfig(
    in_channels=16,
    out_channels=16,
    block_out_channels=(96, 128, 128),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    layers_per_block=1,
    attention_head_dim=4,
    cross_attention_dim=128,
    norm_num_groups=16,
    sample_size=16,
)
TEXT_WIDTH = UNET.cross_attention_dim
SCHEDULE = Schedule(
    betas="squaredcos_cap_v2",  # Stable Diffusion's has little time for details of 16x16 latents
    prediction_type="sample",  # small models predict clean latents sooner than noise or velocity
    timestep_spacing="trailing",
)
MEASURED = 256  # images of validation whose reconstruction is measured


def train(
    config: ConfigDict, workdir: pathlib.Path, autoencoder: autoencoder_lib.Settings = AUTOENCODER
) -> None:
    """Trains what is missing: the autoencoder, then text encoder and UNet.

    Args:
        config: of text encoder and UNet; its `pretrained` is set here.
        workdir: receives autoencoder/, start/ (the folder that `pretrained` names) and unet/.
        autoencoder: settings of the autoencoder's training.
    """
    start = workdir / "start"
    if not (start / stable_diffusion_folder.INDEX_NAME).is_file():
        _make_start(config, workdir, autoencoder)
    config.pretrained = str(start)
    loop.train(config, workdir / "unet")


def export(
    config: ConfigDict, workdir: pathlib.Path, folder: pathlib.Path, *, dtype: DTypeLike
) -> None:
    """Writes the trained parts as a folder of Stable Diffusion in diffusers' format.

    Raises:
        FileNotFoundError: nothing is trained in the working directory.
    """
    model = checkpoints.load_model(workdir / "unet")
    pipeline = nnx.merge(model.graphdef, nnx_state(model.params))
    stable_diffusion_folder.save(
        folder,
        autoencoder=pipeline.autoencoder,
        text_encoder=pipeline.text_encoder,
        unet=pipeline.retrinet.unet,
        tokenizer=model.tokenizer,
        schedule=model.schedule,
        dtype=dtype,
    )


def _make_start(
    config: ConfigDict, workdir: pathlib.Path, settings: autoencoder_lib.Settings
) -> None:
    """Trains the autoencoder and writes start/, where text encoder and UNet are untrained."""
    builder = dataset_lib.prepare(config.data.dataset, config.data_dir)
    mesh = mesh_lib.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    folder = workdir / "autoencoder"
    folder.mkdir(parents=True, exist_ok=True)
    trained = autoencoder_lib.train(
        settings,
        dataset_lib.open_split(builder, "train"),
        size=config.data.size,
        workdir=folder,
        mesh=mesh,
    )
    validation = dataset_lib.open_split(builder, "validation")
    print(
        f"Autoencoder: {_reconstruction(trained, validation, config.data.size):.2f} dB on images "
        "of validation.",
        flush=True,
    )
    tokenizer = dataset_lib.word_tokenizer(builder)
    text = CLIPTextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=config.data.max_tokens,
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    rngs = nnx.Rngs(config.seed)
    stable_diffusion_folder.save(
        workdir / "start",
        autoencoder=trained,
        text_encoder=CLIPTextModel(text, rngs),
        unet=UNet2DConditionModel(UNET, rngs),
        tokenizer=tokenizer,
        schedule=SCHEDULE,
    )


def _reconstruction(autoencoder: AutoencoderKL, split: Split, size: int) -> float:
    crops = ConceptCrops(split, size=size, view="crop", cache=True)
    images = [crops[i, CHARACTER] for i in range(min(MEASURED, len(split)))]
    return autoencoder_lib.psnr(autoencoder, np.stack(images))
