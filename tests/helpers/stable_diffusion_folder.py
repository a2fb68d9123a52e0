"""A Stable Diffusion folder with random weights, as small as can be, written by diffusers."""

import pathlib

import diffusers
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer() -> transformers.CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    return transformers.CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[])


def unet(width: int) -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=width,
        norm_num_groups=4,
        sample_size=8,
    )


def vae(latent_channels: int) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=latent_channels,
    )


def text_encoder(width: int, tokens: int, vocabulary: int) -> transformers.CLIPTextModel:
    config = transformers.CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokens,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return transformers.CLIPTextModel(config)


def write(
    folder: pathlib.Path, width: int = 12, text_width: int = 12, latent_channels: int = 4
) -> pathlib.Path:
    """Writes unet/, vae/, text_encoder/, tokenizer/ and scheduler/ (float16)."""
    torch.manual_seed(0)
    words = tokenizer()
    words.save_pretrained(folder / "tokenizer")
    unet(width).half().save_pretrained(folder / "unet")
    vae(latent_channels).half().save_pretrained(folder / "vae")
    text_encoder(text_width, 77, len(words)).half().save_pretrained(folder / "text_encoder")
    diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    ).save_pretrained(folder / "scheduler")
    return folder
