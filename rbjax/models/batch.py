"""A batch of training examples, and what the frozen encoders make of it.

Axes: B batch (absent in a single example), R references, H W image, h w latent, C latent channels,
T tokens of a prompt, Tc of a concept word, D text width.
"""

import dataclasses

import jax
import numpy as np

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Images and token ids (integers), or in their place what encoders returned of them (floats).

    The stored values are those of data/latent_cache.py. `Pipeline.encode` takes either, field by
    field.

    Attributes:
        target: uint8 [B, H, W, 3], or moments [B, h, w, 2C] of the latents.
        references: uint8 [B, R, H, W, 3] crops of the concepts, or mean latents [B, R, h, w, C].
        prompt: int32 [B, T], tags that no visible reference carries, or their states [B, T, D].
        concepts: int32 [B, R, Tc], concept word of each reference, or its states [B, R, Tc, D].
        reference_mask: bool [B, R], False at padding and where references are dropped.
        index: int32 [B], position of the target in the split; None outside of a data set.
        all_tags: int32 [B, T], the target's tags, all that fit, where the base model is the
            teacher (`train.target`); None: they are not read.
        shown: float32 [B, 4], left, top, right and bottom of the target without its white bars, as
            shares of its width and height; None: all of it.
    """

    target: Array
    references: Array
    prompt: Array
    concepts: Array
    reference_mask: Array
    index: Array | None = None
    all_tags: Array | None = None
    shown: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EncodedBatch:
    """What the loss and RetriNet read of a batch; see `Pipeline.encode`.

    Attributes:
        latents: float32 [B, h, w, C] of the targets.
        references: float32 [B, R, h, w, C], latents.
        prompt: states [B, T, D].
        concepts: states [B, R, Tc, D].
        reference_mask: bool [B, R], as in the batch.
    """

    latents: jax.Array
    references: jax.Array
    prompt: jax.Array
    concepts: jax.Array
    reference_mask: Array
