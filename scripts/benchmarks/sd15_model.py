"""What the benchmarks at Stable Diffusion 1.5's size share: options, model, batch, table.

The model is that of `configs/composition.py:sd15`, without a folder to read it from.
"""

import argparse
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs import composition
from rbjax.interop import stable_diffusion
from rbjax.interop.stable_diffusion import Parts
from rbjax.models.autoencoder_kl import AutoencoderKLConfig
from rbjax.models.batch import Batch
from rbjax.models.clip_text import CLIPTextConfig
from rbjax.models.unet_config import UNetConfig

VOCABULARY, TOKENS = 49408, 77  # CLIP's
WARMUP = 3  # updates that are not counted
GENERATIONS = 5
HEADER = (
    f"{'':16}{'':10}{'px':>5}{'batch':>7}{'ms':>10}{'images/s':>10}{'GiB':>8}{'MFU, %':>8}"
    f"{'compile, s':>12}"
)

Row = dict[
    str, Any
]  # what is measured: what, size, batch_size, seconds, compile, memory (GiB), ...


def make_parser(description: str) -> argparse.ArgumentParser:
    """Returns the parser of the options."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--size", type=int, nargs="+", default=[384], help="pixels of targets and references")
    add("--batch_size", type=int, default=8, help="examples of an update")
    add("--references", type=int, default=4, help="of an example")
    add("--remat", action="store_true", help="compute activations twice, to keep fewer")
    add("--dtype", default="bfloat16", help="of the computation; CPUs want float32")
    add("--steps", type=int, default=50, help="updates that the median is taken of")
    add("--images", type=int, default=0, help="also generate so many at once; 0 = do not")
    add("--json", help="file for the figures")
    add("--tiny", action="store_true", help="a small model, to see whether the program works")
    return parser


def make_parts(*, tiny: bool) -> Parts:
    """Returns the settings of the models; `tiny`: of models that a CPU runs in seconds."""
    if not tiny:
        text = CLIPTextConfig(
            vocab_size=VOCABULARY, hidden_size=768, intermediate_size=3072, num_attention_heads=12
        )
        return Parts(UNetConfig(), AutoencoderKLConfig(), text)
    unet = UNetConfig(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=24,
    )
    vae = AutoencoderKLConfig(block_out_channels=(4, 8, 8, 8), norm_num_groups=2)
    text = CLIPTextConfig(
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=48, num_hidden_layers=1
    )
    return Parts(unet, vae, text)


def make_config(args: argparse.Namespace, size: int) -> ConfigDict:
    """Returns the configuration of the variant sd15 at `size` pixels, completed by `make_parts`."""
    config = stable_diffusion.with_parts(composition.sd15(), make_parts(tiny=args.tiny))
    changes = {
        "data.size": size,
        "batch_size": args.batch_size,
        "train.accumulate": 1,
        "model.unet.remat": args.remat,
        "model.unet.dtype": args.dtype,
        "model.vae.dtype": args.dtype,
        "noise_schedule.betas": "scaled_linear",
        "noise_schedule.prediction_type": "epsilon",
    }
    config.update_from_flattened_dict(changes)
    return config


def make_batch(size: int, *, count: int, references: int) -> Batch:
    """Returns random images of `size` pixels and random prompts, `count` examples."""
    rng = np.random.default_rng(0)
    return Batch(
        target=rng.integers(0, 256, (count, size, size, 3), np.uint8),
        prompt=rng.integers(0, VOCABULARY, (count, TOKENS), np.int32),
        references=rng.integers(0, 256, (count, references, size, size, 3), np.uint8),
        concepts=rng.integers(0, VOCABULARY, (count, references, 3), np.int32),
        reference_mask=np.ones((count, references), bool),
        index=np.arange(count, dtype=np.int32),
    )


def format_row(name: str, row: Row) -> str:
    """Returns a line of the table; ms are of one update, or of all steps of a batch of images."""
    seconds, peak = row["seconds"], row.get("peak")
    mfu = f"{100 * row['flops'] / seconds / peak:8.1f}" if peak else f"{'-':>8}"
    cells = f"{1000 * seconds:10.1f}{row['batch_size'] / seconds:10.2f}{row['memory']:8.1f}"
    head = f"{name:16}{row['what']:10}{row['size']:5}{row['batch_size']:7}"
    return f"{head}{cells}{mfu}{row['compile']:12.0f}"
