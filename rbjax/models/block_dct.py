"""Between pixels and latents: `BlockDCT` stands where SD has its KL autoencoder."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import fft

COLORS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]])  # luma, red - blue, both - green
COLOR_STD = (1.0, 0.65, 0.4)  # of these in images, relative to luma


@dataclasses.dataclass(frozen=True)
class BlockDCT:
    """A fixed linear autoencoder without parameters (ours): JPEG's transform, scaled.

    A block of pixels becomes the discrete cosine transform of three opponent colours; the finest
    frequencies are left out. Images have coarse frequencies of large and fine ones of small
    variance, about 1 / frequency; each channel is divided by the square root of its expected
    standard deviation, so that a squared error counts fine detail (a mouth) more than in pixels
    and noise hides it less. With luma = chroma = factor**2 nothing is lost.

    Attributes:
        factor: side of a block in pixels; latents are `factor` times smaller than the image.
        luma: frequencies that are kept of brightness, at most factor**2.
        chroma: frequencies that are kept of either other colour, at most factor**2.
    """

    factor: int
    luma: int
    chroma: int

    def __post_init__(self) -> None:
        if not (1 <= self.luma <= self.factor**2 and 1 <= self.chroma <= self.factor**2):
            raise ValueError(
                f"model.luma={self.luma} and model.chroma={self.chroma} must be 1 to "
                f"{self.factor**2}, the square of model.patch={self.factor}"
            )

    @property
    def channels(self) -> int:
        """Latent channels."""
        return self.luma + 2 * self.chroma

    def encode(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns latents [B, H/factor, W/factor, channels] of images in [-1, 1].

        Args:
            images: [B, H, W, 3].
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
        flat = blocks.reshape(b, height // f, width // f, f * f * c)
        return jnp.matmul(flat, self.kernels()[0], precision="highest")

    def decode(self, latents: jax.Array) -> jax.Array:
        """Returns images [B, H, W, 3], the inverse of `encode` but for what is left out."""
        b, height, width, _ = latents.shape
        f = self.factor
        flat = jnp.matmul(latents, self.kernels()[1], precision="highest")
        blocks = flat.reshape(b, height, width, f, f, 3).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(b, height * f, width * f, 3)

    def kernels(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the two matrices, float32 [factor * factor * 3, channels] and transposed.

        The long axis is (row, column, RGB) of a block.
        """
        basis, std = _basis(self.factor, self.luma, self.chroma)
        scale = np.sqrt(std / std.mean())[:, None] / std[:, None]
        return (basis * scale).T.astype(np.float32), (basis / scale).astype(np.float32)


@functools.lru_cache
def _basis(factor: int, luma: int, chroma: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns orthonormal rows [channels, factor * factor * 3], and each one's std in images."""
    waves = fft.dct(np.eye(factor), axis=0, norm="ortho")  # [frequency, pixel]
    planes = np.einsum("uy,vx->uvyx", waves, waves).reshape(-1, factor * factor)
    u, v = np.divmod(np.arange(factor**2), factor)
    order = np.lexsort((u, u + v))  # coarse to fine
    colors = COLORS / np.linalg.norm(COLORS, axis=1, keepdims=True)
    rows, stds = [], []
    for color, share, count in zip(colors, COLOR_STD, (luma, chroma, chroma), strict=True):
        kept = order[:count]
        rows.append(np.einsum("kp,c->kpc", planes[kept], color).reshape(count, -1))
        stds.append(share * 0.7 * factor / (1 + 3 * (u + v)[kept]))
    return np.concatenate(rows), np.concatenate(stds)
