"""The text-to-image model that RetriNet starts from: a Stable Diffusion in miniature, of avatars.

Run:  python -m scripts.train_base     (the autoencoder first, then this configuration)

The prompt names everything: identity, outfit, expression, background. There are no references.
"""

from ml_collections import ConfigDict

from configs import composition


def get_config() -> ConfigDict:
    """Returns the configuration; `pretrained` is the folder that scripts/train_base.py makes."""
    c = composition.get_config("avatars")
    c.unlock()
    c.total_steps = 40_000
    c.data.dataset = "avatars/base"
    c.data.size = 128
    c.data.faces = c.data.clothes = 0
    c.data.prompt_tags = "all"
    c.data.drop_prompt = 0.1  # trains the empty prompt, for guidance
    c.data.drop_references = c.data.drop_both = 0.0
    c.data.cached_latents = True
    c.data.view = "crop"
    c.model.patch = 0  # the model comes from the folder
    c.model.vae = ConfigDict({"dtype": "float32"})
    c.model.unet = ConfigDict({"dtype": "float32", "remat": False})
    c.model.text = ConfigDict({"dtype": "float32"})
    c.model.retrieval.heads = 4
    c.noise_schedule.betas = c.noise_schedule.prediction_type = ""  # as the folder's scheduler says
    c.train.trained = (r"retrinet/unet/", r"text_encoder/")
    c.train.frozen = (r"autoencoder/", r"retrinet/(retrieval_encoder|conjunctions)/")
    c.train.learning_rate = 1e-3
    c.train.warmup_steps = 200
    c.train.ema_decay = 0.999
    c.eval.characters = 0
    c.checkpoint_every = 500
    c.lock()
    return c
