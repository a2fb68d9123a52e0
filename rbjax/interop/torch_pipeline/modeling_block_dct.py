"""rbjax's fixed autoencoder: the discrete cosine transform of blocks, as JPEG's, and scaled.

It is called like diffusers' `AutoencoderKL`. Both directions are linear, so the file of weights
holds all of it.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


class BlockDCT(ModelMixin, ConfigMixin):
    """Blocks of `factor` x `factor` pixels to `luma` + 2 `chroma` channels, and back."""

    @register_to_config
    def __init__(self, factor: int, luma: int, chroma: int, scaling_factor: float = 1.0) -> None:
        super().__init__()
        channels = luma + 2 * chroma
        self.encoder = nn.Conv2d(3, channels, factor, stride=factor, bias=False)
        self.decoder = nn.ConvTranspose2d(channels, 3, factor, stride=factor, bias=False)

    @apply_forward_hook  # loads it where it is offloaded
    def encode(self, images: torch.Tensor) -> AutoencoderKLOutput:
        """Images [N, 3, H, W] in [-1, 1] -> a distribution of no variance over [N, C, h, w]."""
        latents = self.encoder(images)
        moments = torch.cat([latents, torch.zeros_like(latents)], dim=1)
        return AutoencoderKLOutput(DiagonalGaussianDistribution(moments, deterministic=True))

    @apply_forward_hook
    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """Latents [N, C, h, w] -> images [N, 3, H, W]."""
        return DecoderOutput(self.decoder(latents))
