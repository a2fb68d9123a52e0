"""Everything from pixels and tokens to pixels: autoencoder, text encoder, RetriNet.

Axes: B batch, R references, H W image, h w latent, C latent channels, T tokens, D text width.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import tokenizers
from flax import nnx
from ml_collections import ConfigDict, FrozenConfigDict

from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from rbjax.models.batch import Array, Batch, EncodedBatch
from rbjax.models.block_dct import BlockDCT
from rbjax.models.clip_text import CLIPTextConfig, CLIPTextModel
from rbjax.models.params import shapes
from rbjax.models.pixels import to_float
from rbjax.models.retrinet import RetriNet, RetriNetConfig
from rbjax.models.unet_config import UNetConfig


class Pipeline(nnx.Module):
    """The modules of one experiment.

    Parameter names start with text_encoder, retrinet or autoencoder (BlockDCT has none).
    """

    def __init__(
        self, config: ConfigDict, *, vocab_size: int, max_tokens: int, rngs: nnx.Rngs
    ) -> None:
        """Builds the modules.

        Args:
            config: the experiment's `model` section.
            vocab_size: of the tokenizer.
            max_tokens: length of a prompt.
            rngs: of the parameters.
        """
        self.autoencoder: AutoencoderKL | BlockDCT
        if config.get("vae"):
            self.autoencoder = AutoencoderKL(AutoencoderKLConfig(**_settings(config.vae)), rngs)
        else:
            self.autoencoder = BlockDCT(config.patch, config.luma, config.chroma)
        self.retrinet = RetriNet(retrinet_config(config), rngs)
        text: dict[str, Any] = {"vocab_size": vocab_size, "max_position_embeddings": max_tokens}
        text |= _settings(config.text)
        self.text_encoder = CLIPTextModel(CLIPTextConfig(**text), rngs)

    def encode_images(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Encodes images, uint8 [..., H, W, 3], as latents [..., h, w, C].

        With a key the KL autoencoder's latents are sampled, as for a training target; without
        one (references, ours) they are the mean.
        """
        flat = to_float(images.reshape(-1, *images.shape[-3:]))
        latents = self.autoencoder.encode(flat, key)
        return latents.reshape(*images.shape[:-3], *latents.shape[1:])

    def decode_latents(self, latents: jax.Array) -> jax.Array:
        """Decodes latents [B, h, w, C] to images, float32 [B, H, W, 3] in [-1, 1]."""
        return jnp.clip(self.autoencoder.decode(latents), -1, 1)

    def encode_text(self, ids: jax.Array) -> jax.Array:
        """Encodes token ids [..., T] as states [..., T, D]."""
        states = self.text_encoder(ids.reshape(-1, ids.shape[-1]))
        return states.reshape(*ids.shape, states.shape[-1])

    def encode(self, batch: Batch, key: jax.Array | None = None) -> EncodedBatch:
        """Encodes the fields of a batch that hold images or token ids; reads those that are stored.

        Args:
            batch: each field as loaded or stored.
            key: samples the targets' latents; None takes their mean. References are always means.

        Raises:
            ValueError: floats that these encoders have not returned.
        """

        encode_target = functools.partial(self.encode_images, key=key)
        read_target = functools.partial(self._read_moments, key=key)
        return EncodedBatch(
            latents=_encode_or_read(batch.target, encode_target, read_target),
            references=_encode_or_read(batch.references, self.encode_images, self._read_means),
            prompt=_encode_or_read(batch.prompt, self.encode_text, self._read_states),
            concepts=_encode_or_read(batch.concepts, self.encode_text, self._read_states),
            reference_mask=batch.reference_mask,
        )

    def predict(self, batch: EncodedBatch, noisy: jax.Array, timesteps: jax.Array) -> jax.Array:
        """Returns RetriNet's prediction for noisy latents [B, h, w, C] of a batch."""
        return self.retrinet(
            noisy,
            timesteps,
            prompt=batch.prompt,
            references=batch.references,
            concepts=batch.concepts,
            mask=batch.reference_mask,
        )

    def _read_moments(self, moments: jax.Array, key: jax.Array | None) -> jax.Array:
        autoencoder = self._autoencoder_of(moments, per_channel=2)
        mean, log_variance = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return autoencoder.sample(mean, log_variance, key)

    def _read_means(self, means: jax.Array) -> jax.Array:
        autoencoder = self._autoencoder_of(means, per_channel=1)
        return means.astype(jnp.float32) * autoencoder.config.scaling_factor

    def _autoencoder_of(self, stored: jax.Array, *, per_channel: int) -> AutoencoderKL:
        """Returns the autoencoder of which a float field holds so many numbers a latent channel.

        Raises:
            ValueError: it has not returned these floats.
        """
        if not isinstance(self.autoencoder, AutoencoderKL):
            raise ValueError("only a KL autoencoder's latents are stored: give uint8 images")
        channels = per_channel * self.autoencoder.config.latent_channels
        if stored.shape[-1] != channels:
            raise ValueError(
                f"floats {stored.shape} are read as stored latents, which have {channels} in the "
                "last axis: give uint8 images, or the latents of this autoencoder"
            )
        return self.autoencoder

    def _read_states(self, states: jax.Array) -> jax.Array:
        width = self.text_encoder.config.hidden_size
        if states.shape[-1] != width:
            raise ValueError(
                f"floats {states.shape} are read as stored text states, which have {width} in the "
                "last axis: give int32 token ids, or the states of this text encoder"
            )
        return states.astype(self.text_encoder.config.dtype)


def _encode_or_read(
    values: Array,
    encode: Callable[[jax.Array], jax.Array],
    read: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Encodes images or token ids, which are integers; reads what an encoder returned, floats."""
    is_stored = jnp.issubdtype(values.dtype, jnp.floating)
    return (read if is_stored else encode)(jnp.asarray(values))


def latent_pixels(config: ConfigDict) -> int:
    """Returns the side of a latent in pixels, from the experiment's `model` section."""
    return (
        AutoencoderKLConfig(**_settings(config.vae)).factor if config.get("vae") else config.patch
    )


def retrinet_config(config: ConfigDict) -> RetriNetConfig:
    """Reads RetriNet's settings from the experiment's `model` section."""
    unet = _settings(config.unet)
    if not config.get("vae"):
        channels = BlockDCT(config.patch, config.luma, config.chroma).channels
        unet |= {"in_channels": channels, "out_channels": channels}
    return RetriNetConfig(
        unet=UNetConfig(**unet),
        heads=config.retrieval.heads,
        positions=config.retrieval.positions,
        reference_timestep=config.retrieval.reference_timestep,
    )


def _settings(section: ConfigDict) -> dict[str, Any]:
    """Returns a part of the `model` section as arguments of a config class."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}
    return values | {"dtype": jnp.dtype(values["dtype"])} if "dtype" in values else values


def make_pipeline(config: ConfigDict, tokenizer: tokenizers.Tokenizer, rngs: nnx.Rngs) -> Pipeline:
    """Builds the pipeline of an experiment's configuration."""
    return Pipeline(
        config.model,
        vocab_size=tokenizer.get_vocab_size(),
        max_tokens=config.data.max_tokens,
        rngs=rngs,
    )


def abstract_pipeline(config: ConfigDict, tokenizer: tokenizers.Tokenizer) -> Pipeline:
    """Builds the pipeline of an experiment's configuration, with shapes in place of arrays."""
    model = FrozenConfigDict(config.model)
    return nnx.clone(_shapes(model, tokenizer.get_vocab_size(), config.data.max_tokens))


@functools.lru_cache(maxsize=4)
def _shapes(model: FrozenConfigDict, vocab_size: int, max_tokens: int) -> Pipeline:
    """Traces all initialisers, which takes a second; a training asks for it several times."""
    return shapes(
        lambda rngs: Pipeline(model, vocab_size=vocab_size, max_tokens=max_tokens, rngs=rngs)
    )
