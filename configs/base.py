"""The text-to-image model that RetriNet starts from: a Stable Diffusion in miniature, of avatars.

Run:  python -m scripts.train_base     (the autoencoder first, then this configuration)

The prompt names everything: identity, outfit, expression, background. There are no references.
"""

from ml_collections import ConfigDict

from configs import composition


def get_config() -> ConfigDict:
    """Returns the configuration; `pretrained` is the folder that scripts/train_base.py makes."""
    c = composition.avatars()
    c.total_steps = 16_000
    c.batch_size = 64
    c.data.dataset = "avatars/base"
    c.data.faces = c.data.clothes = 0
    c.data.crop_jitter = c.data.flip_references = 0.0
    c.data.fixed_changes = False
    c.data.prompt_tags = "all"
    c.data.drop_prompt = 0.1  # trains the empty prompt, for guidance
    c.data.drop_references = c.data.drop_both = 0.0
    c.train.trained = (r"retrinet/unet/", r"text_encoder/")
    c.train.frozen = (r"autoencoder/", r"retrinet/(retrieval_encoder|conjunctions)/")
    c.train.learning_rate = 1e-3
    c.train.warmup_steps = 200
    c.train.decay_steps = 4000
    c.train.ema_decay = 0.999
    c.train.weighting = "velocity"
    c.eval.characters = 0
    c.eval.split = "validation"
    c.checkpoint_every = 2000
    return c
