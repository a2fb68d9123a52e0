"""Between pixels and latents: `PixelUnshuffle` stands where SD has its KL autoencoder."""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class PixelUnshuffle:
    """A lossless autoencoder without parameters: blocks of pixels become channels (ours).

    Attributes:
      factor: side of a block in pixels; latents are `factor` times smaller than the image and
        have 3 * factor**2 channels.
    """

    factor: int

    @property
    def channels(self) -> int:
        """Latent channels."""
        return 3 * self.factor**2

    def encode(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] -> latents [B, H/factor, W/factor, channels].

        Args:
          images: to encode.
          key: unread; there is nothing to sample (see `AutoencoderKL.encode`).

        Raises:
          ValueError: H or W is not a multiple of the factor.
        """
        b, height, width, c = images.shape
        f = self.factor
        if height % f or width % f:
            raise ValueError(
                f"images of {height}x{width} pixels do not divide into blocks of {f}: "
                "change data.size or model.patch"
            )
        blocks = images.reshape(b, height // f, f, width // f, f, c).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(b, height // f, width // f, f * f * c)

    def decode(self, latents: jax.Array) -> jax.Array:
        """The inverse of `encode`."""
        b, height, width, _ = latents.shape
        f = self.factor
        blocks = latents.reshape(b, height, width, f, f, 3).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(b, height * f, width * f, 3)
