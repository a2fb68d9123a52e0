"""Your own pictures, on a small model, from scratch: faces of one picture, clothes of another.

Run:  python -m rbjax.main --config own_data.py[:VARIANT] --config.data_dir=DATA

(from any directory; `configs/own_data.py` is the same). What lies in DATA, which is made by hand:

  annotated  the default: pictures, masks and annotations with face boxes in
             DATA/downloads/manual/retribooru, see tfds_retribooru/retribooru/README.md
  folders    PERSON/PHOTO or CHARACTER/OUTFIT/PICTURE in DATA/downloads/manual/folder, see
             tfds_retribooru/folder/README.md; without face boxes the references are whole pictures
  smoke, folders_smoke  the same for a few steps: a minute, shows that everything runs

The pictures are seen at 48 px. `annotated` took 72 minutes of one slow CPU core with 3,906
pictures to train on (README, Your own data); of `folders` only the smoke variant was started.
"""

from ml_collections import ConfigDict

from configs import composition


def get_config(variant: str = "annotated") -> ConfigDict:
    """Returns the configuration of a variant; raises ValueError for an unknown one."""
    variants = {
        "annotated": annotated,
        "folders": folders,
        "smoke": lambda: _shortened(annotated()),
        "folders_smoke": lambda: _shortened(folders()),
    }
    if variant not in variants:
        raise ValueError(f"unknown variant {variant!r} of own_data.py: use {', '.join(variants)}")
    return variants[variant]()


def annotated() -> ConfigDict:
    """Builds the training on pictures with annotations."""
    c = composition.from_scratch()
    with c.unlocked():
        c.total_steps = 2400
        c.data.dataset = "retribooru/384"
        c.data.size = 48
        c.data.view = "crop"  # figures stand anywhere
        c.data.max_tokens = 77
        c.data.shuffle_tags, c.data.drop_tags = True, 0.1  # tags are often sorted and incomplete
        c.data.underscores_as_spaces = True  # some tags have the one, some the other
        c.checkpoint_every = c.sample_every = 400
        c.eval_every = 800
        c.eval.characters, c.eval.repeats = 32, 3
        c.eval.periodic_characters = 8
    return c


def folders() -> ConfigDict:
    """Builds the training on pictures in folders: references are whole pictures of the person."""
    c = annotated()
    with c.unlocked():
        c.data.dataset = "folder/384"
        c.data.faces = 2  # faces + clothes whole pictures
        c.data.clothes = 0
        c.data.vary_references = True
        c.data.tasks.composition = 0.0
        c.data.tasks.same_identity = 1.0
    return c


def _shortened(c: ConfigDict) -> ConfigDict:
    """Makes a run of six steps of it, on a smaller model."""
    with c.unlocked():
        composition.shortened(c)
        c.model.unet.block_out_channels = (16, 32)
    return c
