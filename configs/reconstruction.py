"""The reference is the target itself (paper, task "-a"): the baseline that leaks.

Run:  python -m rbjax.main --config configs/reconstruction.py[:VARIANT]

Variants: those of composition.py (avatars, sd15, ...); what they cost is said there.
"""

from ml_collections import ConfigDict

from configs import composition


def get_config(variant: str = "avatars") -> ConfigDict:
    """Returns the configuration of a variant; raises ValueError for an unknown one."""
    c = composition.get_config(variant)
    with c.unlocked():
        c.data.tasks.composition = 0.0
        c.data.tasks.reconstruction = 1.0
    return c
