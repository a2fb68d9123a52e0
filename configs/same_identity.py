"""References are other images of the same character, in any outfit (paper, task "-b").

Run:  python -m rbjax.main --config configs/same_identity.py[:VARIANT]

Variants: those of composition.py (avatars, sd15, ...); what they cost is said there.
"""

from ml_collections import ConfigDict

from configs import composition


def get_config(variant: str = "avatars") -> ConfigDict:
    """Returns the configuration of a variant; raises ValueError for an unknown one."""
    c = composition.get_config(variant)
    with c.unlocked():
        c.data.tasks.composition = 0.0
        c.data.tasks.same_identity = 1.0
    return c
