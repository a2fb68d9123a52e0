"""Photos of people: a portrait from other photos of the same person (paper, human faces).

Run:  python -m rbjax.main --config configs/faces.py --config.pretrained=DIR

The photos are read from a folder PERSON/PHOTO by the TFDS builder `folder` (see
tfds_retribooru/folder/README.md). A reference is a whole photo of the same person, and no face box
is needed; with boxes (the README says how), --config.data.tasks.composition=1.0 trains faces alone,
too, and with --config.data.clothes=2 clothes. Sizes and cost are those of composition.py:sd15.
"""

from ml_collections import ConfigDict

from configs import composition


def get_config(variant: str = "sd15") -> ConfigDict:
    """Returns the configuration; raises ValueError for another variant."""
    if variant != "sd15":
        raise ValueError(f"unknown variant {variant!r} of faces.py: it has only sd15")
    c = composition.sd15()
    with c.unlocked():
        c.data.dataset = "folder/384"
        c.data.faces = 2  # whole photos: this task asks for no face box
        c.data.clothes = 0
        c.data.vary_references = True
        c.data.tasks.composition = 0.0
        c.data.tasks.same_identity = 1.0
    return c
